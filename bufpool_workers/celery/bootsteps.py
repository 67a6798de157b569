"""The worker's bootstep: checks settings and limits at start, warms the pools without processes."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from typing import Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import ImproperlyConfigured

from bufpool_workers import memory
from bufpool_workers.celery.startup_error import refusing
from bufpool_workers.diagnostics.capacity import (
    check_budget,
    check_locking,
    check_recycling,
    is_below,
)
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.limits import Process
from bufpool_workers.runtime import malloc, warmup
from bufpool_workers.sealing.keys import check_private
from bufpool_workers.settings import Settings

logger = logging.getLogger(__name__)


class PoolStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Stops a worker with bad settings, and warms pools that share the worker's process."""

    name = "bufpool_workers.Pools"
    requires = ("celery.worker.components:Pool",)

    @refusing()
    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        pools = memory.current_pools()  # raises ImproperlyConfigured, which ends the worker
        for path in pools.settings.private_keys:
            check_private(path)
        if pools.settings.tune_malloc:
            malloc.check()
        for finding in (
            check_recycling(
                pools.settings,
                limit_bytes=(parent.max_memory_per_child or 0) * 1024,
                used_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            ),
            check_budget(pools.settings, alive_seconds=parent.app.conf.worker_proc_alive_timeout),
            *check_secure_memory(pools.settings),
        ):
            if finding.level == "error":
                raise ImproperlyConfigured(str(finding))
            if finding.level == "warning":
                logger.warning("bufpool: %s", finding)

    def start(self, parent: Any) -> None:
        """Warm up where Celery sends no worker_process_init: threads, gevent, eventlet."""
        if not issubclass(parent.pool_cls, PreforkPool | SoloPool):
            warmup.ensure_pools()

    def stop(self, parent: Any) -> None:
        """Close the pools where Celery sends no worker_process_shutdown."""
        if not issubclass(parent.pool_cls, PreforkPool):
            warmup.close_pools()

    terminate = stop


def check_secure_memory(settings: Settings) -> Iterator[Finding]:
    """Log the level of protection that secure memory gets here, and say what stands against it."""
    level = memory.reachable_level(max(memory.secure_warm_bytes(settings), 1))
    facts = Process.of()
    if not is_below(level, settings.secure_level):
        logger.info(
            "bufpool: secure memory at level %s, RLIMIT_MEMLOCK is %s", level, memory.lock_limit()
        )
    yield from check_locking(
        settings, level=level, soft_limit=facts.memlock_bytes, may_lock_any=facts.may_lock_any
    )
