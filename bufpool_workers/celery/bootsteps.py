"""The worker's bootsteps: they check what it needs at its start, warm, serve, and clean up."""

from __future__ import annotations

from typing import Any

import celery
from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool

from bufpool_workers.celery import control
from bufpool_workers.celery.coroutines import check_coroutines
from bufpool_workers.celery.environment import environment
from bufpool_workers.celery.publishing import check_schedule
from bufpool_workers.celery.startup_error import startup_errors
from bufpool_workers.diagnostics.capacity import check_budget, check_recycling
from bufpool_workers.diagnostics.limits import peak_bytes
from bufpool_workers.runtime import current_runtime, startup


class MetricsStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Stops a worker that could not count or not be scraped, before it has any child."""

    name = "bufpool_workers.Metrics"

    @startup_errors()
    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        control.register()
        runtime = current_runtime()
        settings = runtime.settings  # raises ImproperlyConfigured, which ends the worker
        software = {"celery": celery.__version__}
        runtime.node.start(node=parent.hostname, app=parent.app.main, software=software)
        environment.share_metrics(runtime)
        self._endpoint = None if settings.metrics_port is None else runtime.node.serve()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop listening."""
        if self._endpoint is not None:
            self._endpoint.close()

    terminate = stop


class PoolStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Stops a worker with bad settings, and warms pools that share the worker's process."""

    name = "bufpool_workers.Pools"
    requires = ("celery.worker.components:Pool",)

    @startup_errors()
    def __init__(self, parent: Any, *, beat: bool = False, **kwargs: Any) -> None:
        super().__init__(parent, beat=beat, **kwargs)
        if beat:
            check_schedule(parent.app)
        runtime = current_runtime()
        settings = runtime.settings
        runtime.node.check_warm(
            processes=(getattr(parent, "max_concurrency", None) or parent.concurrency)
            if issubclass(parent.pool_cls, PreforkPool)
            else 1
        )
        runtime.load_late_imports(store="bufpool_workers.celery.single_use")
        startup.check(settings)
        if issubclass(parent.pool_cls, PreforkPool):
            runtime.keys.keep_out()
        startup.report(
            (
                check_recycling(
                    settings,
                    limit_bytes=(parent.max_memory_per_child or 0) * 1024,
                    used_bytes=peak_bytes(),
                ),
                check_budget(settings, alive_seconds=parent.app.conf.worker_proc_alive_timeout),
                *check_coroutines(parent.app),
            )
        )

    def start(self, parent: Any) -> None:
        """Warm up where Celery sends no worker_process_init: threads, gevent, eventlet."""
        if not issubclass(parent.pool_cls, PreforkPool | SoloPool):
            current_runtime().start_process()

    def stop(self, parent: Any) -> None:
        """Close the pools where Celery sends no worker_process_shutdown."""
        if not issubclass(parent.pool_cls, PreforkPool):
            current_runtime().stop_process()

    terminate = stop
