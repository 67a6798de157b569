"""`celery bufpool doctor`: looks at the host, the app and what the workers have counted."""

from __future__ import annotations

from collections.abc import Iterator

from bufpool_workers.celery.app_checks import check_app
from bufpool_workers.celery.nodes import NodeFinder
from bufpool_workers.diagnostics import doctor
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.limits import Process

__all__ = ["diagnose"]


def diagnose(finder: NodeFinder) -> Iterator[Finding]:
    """Check the host, the app and its nodes."""

    def check_program(process: Process, processes: int) -> Iterator[Finding]:
        return check_app(finder.app, finder.settings, process=process, processes=processes)

    return doctor.diagnose(finder, check_program=check_program)
