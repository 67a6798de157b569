"""The checks of `doctor` for any job system: the host, its program, the counts of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from bufpool_workers.counters import private_directory
from bufpool_workers.diagnostics.capacity import check_locking, level_when_warm
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.host import check_host
from bufpool_workers.diagnostics.limits import Process
from bufpool_workers.diagnostics.node_finder import BrokerError, NodeFinder
from bufpool_workers.diagnostics.nodes import Node, read_limits, secure_level
from bufpool_workers.diagnostics.sizing import check_sizing
from bufpool_workers.diagnostics.traffic import check_node
from bufpool_workers.errors import MetricsError


def diagnose(
    finder: NodeFinder, *, check_program: Callable[[Process, int], Iterable[Finding]]
) -> Iterator[Finding]:
    """Check the host, its program and its nodes.

    Limits are those of a worker on this host if one is found, else of this process, which may be
    allowed more or less than a worker started by something else. `check_program` gets them, and
    how many processes of the nodes have been seen here.
    """
    settings = finder.settings
    nodes, unseen = _nodes(finder)
    process, whose = read_limits(nodes)
    level = secure_level(nodes) or level_when_warm(settings)
    is_known = any(node.pid == process.pid for node in nodes)
    yield Finding("ok" if is_known else "note", "limits", f"limits as seen by {whose}")
    yield from check_locking(
        settings,
        level=level,
        soft_limit=process.memlock_bytes,
        may_lock_any=process.may_lock_any,
    )
    directory = finder.chosen_directory
    yield from check_host(
        settings,
        process=process,
        level=level,
        directory=directory or private_directory.base(),
        holds_private=directory is None,
    )
    here = sum(len(node.report.processes) for node in nodes if node.pid is not None)
    yield from check_program(process, here)
    yield from unseen
    for node in nodes:
        yield from check_node(node)
    if nodes:
        yield from check_sizing([node.report for node in nodes], settings)


def _nodes(finder: NodeFinder) -> tuple[list[Node], list[Finding]]:
    try:
        return finder.find(), []
    except BrokerError as error:
        return [], [
            Finding("warning", "broker", str(error), "start the broker, or give its URL with -b")
        ]
    except MetricsError as error:
        return [], [Finding("note", "nodes", f"no numbers of a worker to look at: {error}")]
