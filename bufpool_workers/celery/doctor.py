"""`celery bufpool doctor`: looks at the host, the app and what the workers have counted."""

from __future__ import annotations

from collections.abc import Iterator

from bufpool_workers.celery.app_checks import check_app, level_of
from bufpool_workers.celery.nodes import BrokerError, Finder, Node
from bufpool_workers.diagnostics.capacity import check_locking
from bufpool_workers.diagnostics.finding import Finding, ok
from bufpool_workers.diagnostics.host import check_host
from bufpool_workers.diagnostics.limits import Process
from bufpool_workers.diagnostics.sizing import check_sizing
from bufpool_workers.diagnostics.traffic import check_node
from bufpool_workers.errors import MetricsError

__all__ = ["diagnose"]


def diagnose(finder: Finder) -> Iterator[Finding]:
    """Find out how the host, the app and its nodes are.

    Limits are those of a worker on this host if one is found, else of this process, which may be
    allowed more or less than a worker started by something else.
    """
    settings = finder.settings
    nodes, unseen = _nodes(finder)
    process, whose = _process(nodes)
    level = _level(nodes) or level_of(settings)
    yield ok("limits", f"limits as seen by {whose}")
    yield from check_locking(
        settings,
        level=level,
        soft_limit=process.memlock_bytes,
        may_lock_any=process.may_lock_any,
    )
    yield from check_host(settings, process=process, level=level)
    here = sum(len(node.report.processes) for node in nodes if node.pid is not None)
    yield from check_app(finder.app, settings, process=process, processes=here)
    yield from unseen
    for node in nodes:
        yield from check_node(node)
    if nodes:
        yield from check_sizing([node.report for node in nodes], settings)


def _nodes(finder: Finder) -> tuple[list[Node], list[Finding]]:
    try:
        return finder.find(), []
    except BrokerError as error:
        return [], [
            Finding("warning", "broker", str(error), "start the broker, or give its URL with -b")
        ]
    except MetricsError as error:
        return [], [Finding("note", "nodes", f"no numbers of a worker to look at: {error}")]


def _process(nodes: list[Node]) -> tuple[Process, str]:
    for node in nodes:
        if node.pid is not None:
            try:
                return Process.of(node.pid), f"{node.name}, process {node.pid}"
            except OSError:  # it has ended meanwhile
                continue
    return Process.of(), "this command; a worker started otherwise may have others"


def _level(nodes: list[Node]) -> str | None:
    levels = [node.report.secure_level for node in nodes if node.pid is not None]
    return next((level for level in levels if level), None)
