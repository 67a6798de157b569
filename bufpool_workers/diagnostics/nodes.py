"""Nodes of any job system: what each has counted, and what the host allows its processes."""

from __future__ import annotations

from collections.abc import Iterable

from bufpool_workers._record import record_class
from bufpool_workers.counters.report import Report
from bufpool_workers.diagnostics.limits import Process


@record_class(frozen=True, kw_only=True, slots=True)
class Node:
    """A node, or all processes that count in one directory: a name to show, and its numbers.

    `pid` is the main process of a worker on this host, if that is known.
    """

    name: str
    report: Report
    pid: int | None = None


def read_limits(nodes: Iterable[Node]) -> tuple[Process, str]:
    """Read the limits of a worker on this host, else of this process; return whose they are too."""
    for node in nodes:
        if node.pid is not None:
            try:
                return Process.of(node.pid), f"{node.name}, process {node.pid}"
            except OSError:  # it has ended meanwhile
                continue
    return Process.of(), "this command; a worker started otherwise may have others"


def secure_level(nodes: Iterable[Node]) -> str | None:
    """Return the level of secure memory that a worker on this host has; None if none is known."""
    levels = (node.report.secure_level for node in nodes if node.pid is not None)
    return next(filter(None, levels), None)
