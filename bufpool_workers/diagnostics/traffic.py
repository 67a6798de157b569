"""What the nodes' numbers say of tasks that misuse buffers, and of processes that are not well."""

from __future__ import annotations

from collections.abc import Iterator

from bufpool_workers.celery.nodes import Node
from bufpool_workers.diagnostics.finding import Finding, Level, ok

_WARNED = "PYTHONWARNINGS=default::ResourceWarning makes the worker's log name"
_TROUBLES: tuple[tuple[str, Level, str, str], ...] = (
    (
        "escapes",
        "warning",
        "views outlived their buffer",
        f"copy what a task keeps of a buffer; {_WARNED} the place",
    ),
    (
        "reclaims",
        "warning",
        "buffers were dropped, or held when their task ended",
        f"use `with` or pooled_buffer; {_WARNED} the task",
    ),
    (
        "unlocked",
        "warning",
        "secure buffers were lent unlocked",
        "raise RLIMIT_MEMLOCK, or demand a level with bufpool_secure_level",
    ),
    (
        "damages",
        "error",
        "buffers were written past their end",
        "look for C code or ctypes that writes more than len(buffer); the worker's log says when",
    ),
)


def check_node(node: Node) -> Iterator[Finding]:
    """Look at a node's numbers."""
    report, name = node.report, node.name
    cold = len(report.processes) - report.warmed_processes
    if cold:
        yield Finding(
            "warning",
            "warm",
            f"{name}: {cold} of {len(report.processes)} processes are not warm",
            "the worker's log says whether the warm-up failed or ran out of bufpool_warm_seconds",
        )
    elif report.processes:
        yield ok("warm", f"{name}: all {len(report.processes)} processes are warm")
    else:
        yield Finding("note", "warm", f"{name}: no process counts there now")
    for field, level, what, to_do in _TROUBLES:
        number = getattr(report.total, field)
        if number:
            yield Finding(level, field, f"{name}: {what}: {number}", to_do)
    for its in report.escape_places:
        yield Finding(
            "note",
            "escape_place",
            f"{name}: {its.escapes} of the {its.pool} buffers that escaped were acquired at "
            f"{its.place}",
        )
    for file, reason in report.skipped.items():
        yield Finding(
            "warning", "skipped", f"{name}: {file}: {reason}", "remove it, if nobody writes it"
        )
