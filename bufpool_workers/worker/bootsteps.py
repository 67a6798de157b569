"""The worker's bootstep: checks settings and limits at start, warms the pools without processes."""

from __future__ import annotations

import logging
import resource
from pathlib import Path
from typing import Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import ImproperlyConfigured

from bufpool_workers import memory
from bufpool_workers.sealing.keys import check_private
from bufpool_workers.settings import Settings
from bufpool_workers.worker import malloc, warmup

logger = logging.getLogger(__name__)

_CAP_IPC_LOCK = 14  # linux/capability.h: its holders may lock any amount


class PoolStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Stops a worker with bad settings, and warms pools that share the worker's process."""

    name = "bufpool_workers.Pools"
    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        pools = memory.current_pools()  # raises ImproperlyConfigured, which ends the worker
        for path in pools.settings.private_keys:
            check_private(path)
        if pools.settings.tune_malloc:
            malloc.check()
        check_limits(pools.settings, parent.max_memory_per_child)
        check_budget(pools.settings, parent.app.conf.worker_proc_alive_timeout)
        check_secure_level(pools.settings)

    def start(self, parent: Any) -> None:
        """Warm up where Celery sends no worker_process_init: threads, gevent, eventlet."""
        if not issubclass(parent.pool_cls, PreforkPool | SoloPool):
            warmup.ensure_pools()

    def stop(self, parent: Any) -> None:
        """Close the pools where Celery sends no worker_process_shutdown."""
        if not issubclass(parent.pool_cls, PreforkPool):
            warmup.close_pools()

    terminate = stop


def check_limits(settings: Settings, max_memory_per_child_kib: int | None) -> None:
    """Warn where the pools may outgrow what the worker or the system allows a process."""
    cap = sum(settings.max_bytes.values())
    limit = (max_memory_per_child_kib or 0) * 1024
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if limit and cap + now > limit:
        logger.warning(
            "bufpool: bufpool_max_bytes allows %d bytes on top of the %d that the worker uses, "
            "above worker_max_memory_per_child, %d bytes: children may be recycled again and "
            "again; lower the one or raise the other",
            cap,
            now,
            limit,
        )


def check_budget(settings: Settings, alive_seconds: float) -> None:
    """Warn where Celery may kill children that replace others before they are warm."""
    if settings.warm_seconds >= alive_seconds:
        logger.warning(
            "bufpool: bufpool_warm_seconds, %g s, is not below worker_proc_alive_timeout, %g s: "
            "children that replace others may be killed before they are warm; lower the one or "
            "raise the other",
            settings.warm_seconds,
            alive_seconds,
        )


def check_secure_level(settings: Settings) -> None:
    """Log the level of protection that secure memory gets, and warn where it can't be locked.

    Raises ImproperlyConfigured when `bufpool_secure_level` demands more for what is to be warmed.
    """
    warm = memory.secure_warm_bytes(settings)
    level = memory.reachable_level(max(warm, 1))
    if memory.LEVELS.index(level) < memory.LEVELS.index(_least(settings)):
        error = memory.unmet("secure and random pool", nbytes=warm, level=settings.secure_level)
        raise ImproperlyConfigured(str(error))
    logger.info(
        "bufpool: secure memory at level %s, RLIMIT_MEMLOCK is %s", level, memory.lock_limit()
    )
    most = settings.max_bytes["secure"] + settings.max_bytes["random"]
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and most > soft and not _may_lock_any():
        logger.warning(
            "bufpool: bufpool_max_bytes allows %d bytes of secure and random memory and "
            "bufpool_warm makes %d at start, RLIMIT_MEMLOCK is %d bytes: what is beyond it can't "
            "be locked, and is counted as unlocked; lower the ones, or raise the other (ulimit -l "
            "in KiB, LimitMEMLOCK= in a systemd unit, --ulimit memlock=BYTES for a container)",
            most,
            warm,
            soft,
        )
    elif level == "plain":
        logger.warning(
            "bufpool: this system locks no memory for the pools: secure and random buffers may be "
            "swapped, and are counted as unlocked"
        )


def _least(settings: Settings) -> str:
    return "plain" if settings.secure_level == "any" else settings.secure_level


def _may_lock_any() -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:  # not Linux
        return False
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_IPC_LOCK & 1)
