"""The worker's bootsteps: they check what it needs at its start, warm, serve, and clean up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import ImproperlyConfigured

from bufpool_workers import memory
from bufpool_workers.celery import control
from bufpool_workers.celery.environment import environment
from bufpool_workers.celery.publishing import check_schedule
from bufpool_workers.celery.startup_error import startup_errors
from bufpool_workers.diagnostics.capacity import (
    check_budget,
    check_locking,
    check_recycling,
    is_below,
    level_when_warm,
)
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.limits import Process, peak_bytes
from bufpool_workers.runtime import current_runtime, malloc
from bufpool_workers.settings import Settings

logger = logging.getLogger(__name__)


class MetricsStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Stops a worker that could not count or not be scraped, before it has any child."""

    name = "bufpool_workers.Metrics"

    @startup_errors()
    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        control.register()
        runtime = current_runtime()
        settings = runtime.settings  # raises ImproperlyConfigured, which ends the worker
        private = runtime.directory.path if runtime.directory.is_private else None
        runtime.start_node(node=parent.hostname, app=parent.app.main)
        environment.check_metrics(
            runtime, private=private, is_prefork=issubclass(parent.pool_cls, PreforkPool)
        )
        self._endpoint = None if settings.metrics_port is None else runtime.serve_metrics()

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
        runtime.check_warm(
            processes=(getattr(parent, "max_concurrency", None) or parent.concurrency)
            if issubclass(parent.pool_cls, PreforkPool)
            else 1
        )
        runtime.load_late_imports()
        if settings.public_key is not None:
            from bufpool_workers.sealing.keys import check_public  # noqa: PLC0415 - cryptography

            check_public(settings.public_key)
        if settings.private_keys:
            # loads redis and the keys' library, before a fork and outside any signal
            from bufpool_workers.celery import single_use  # noqa: F401, PLC0415
            from bufpool_workers.sealing.keys import check_private  # noqa: PLC0415

            for path in settings.private_keys:
                check_private(path)
        if settings.tune_malloc:
            malloc.check()
        for finding in (
            check_recycling(
                settings,
                limit_bytes=(parent.max_memory_per_child or 0) * 1024,
                used_bytes=peak_bytes(),
            ),
            check_budget(settings, alive_seconds=parent.app.conf.worker_proc_alive_timeout),
            *check_secure_memory(settings),
        ):
            if finding.severity == "error":
                raise ImproperlyConfigured(str(finding))
            if finding.severity == "warning":
                logger.warning("bufpool: %s", finding)

    def start(self, parent: Any) -> None:
        """Warm up where Celery sends no worker_process_init: threads, gevent, eventlet."""
        if not issubclass(parent.pool_cls, PreforkPool | SoloPool):
            current_runtime().start_process()

    def stop(self, parent: Any) -> None:
        """Close the pools where Celery sends no worker_process_shutdown."""
        if not issubclass(parent.pool_cls, PreforkPool):
            current_runtime().stop_process()

    terminate = stop


def check_secure_memory(settings: Settings) -> Iterator[Finding]:
    """Log the level of protection that secure memory gets here; yield what stands against it."""
    level = level_when_warm(settings)
    facts = Process.of()
    if not is_below(level, settings.secure_level):
        logger.info(
            "bufpool: secure memory at level %s, RLIMIT_MEMLOCK is %s", level, memory.lock_limit()
        )
    yield from check_locking(
        settings, level=level, soft_limit=facts.memlock_bytes, may_lock_any=facts.may_lock_any
    )
