"""The doctor's look at a node's numbers: warmth, misuse of buffers, unreadable files."""

from __future__ import annotations

from collections.abc import Iterator

from bufpool_workers.diagnostics.finding import Finding, ok
from bufpool_workers.diagnostics.nodes import Node
from bufpool_workers.diagnostics.problems import find_problems, unseal_failures_in_words


def check_node(node: Node) -> Iterator[Finding]:
    """Look at a node's numbers."""
    report, name = node.report, node.name
    processes = len(report.processes)
    if not processes:
        yield Finding("note", "warm", f"{name}: no process counts there now")
    elif report.warmed_processes == processes:
        yield ok("warm", f"{name}: all {processes} processes are warm")
    for problem, number in find_problems(report):
        check, among = problem.field, ""
        if check == "unwarmed":
            check, among = "warm", f" of {processes}"
        yield Finding(
            problem.severity, check, f"{name}: {problem.title}: {number}{among}", problem.advice
        )
    if report.unseal_failures:
        words = unseal_failures_in_words(report)
        yield Finding("note", "sealed", f"{name}: sealed arguments that did not open: {words}")
    for file, reason in report.skipped.items():
        yield Finding("note", "skipped_file", f"{name}: {file}: {reason}")
    for place in report.escape_places:
        yield Finding(
            "note",
            "escape_place",
            f"{name}: {place.escapes} of the {place.pool} buffers that escaped were acquired at "
            f"{place.place}",
        )
