"""Warm-up: once in each process that runs tasks, before its first one."""

from __future__ import annotations

import logging
import os
import time

from bufpool_workers import memory
from bufpool_workers.errors import SealError
from bufpool_workers.runtime import malloc
from bufpool_workers.runtime.counting import counting
from bufpool_workers.sealing.keyring import current_keyring

logger = logging.getLogger(__name__)

_warmed_pid: int | None = None


def ensure_pools() -> None:
    """Warm this process's pools if that was not done; safe to call again, and after a fork.

    A failure is logged, not raised: Celery would swallow it, and buffers are mapped when they are
    asked for, all the same.
    """
    global _warmed_pid  # noqa: PLW0603 - warm-up is per process by definition
    if _warmed_pid == os.getpid():
        return
    _warmed_pid = os.getpid()
    pools = memory.current_pools()
    try:
        _warm(pools)
    except Exception:
        counting.set_warmed(warm=False)
        logger.exception("bufpool: warm-up failed; buffers are mapped as tasks ask for them")
    if pools.settings.private_keys:
        _load_keys()


def _warm(pools: memory.Pools) -> None:
    began = time.perf_counter()
    warmth = pools.warm()
    if pools.settings.tune_malloc:  # pools count by now, so that a refusal shows as unwarmed
        malloc.tune()
    counting.set_warmed(warm=warmth.complete)
    seconds = time.perf_counter() - began
    numbers = {
        "event": "warmed",
        "buffers": warmth.buffers,
        "bytes": warmth.nbytes,
        "seconds": seconds,
        "complete": warmth.complete,
        "secure_level": memory.secure_level(),
    }
    if warmth.complete:
        logger.info(
            "bufpool: %(buffers)d buffers, %(bytes)d bytes warm in %(seconds).4f s",
            numbers,
            extra={"bufpool": numbers},
        )
    else:
        logger.warning(
            "bufpool: %(buffers)d buffers, %(bytes)d bytes warm when bufpool_warm_seconds "
            "(%(budget)g s) was over; the rest is mapped as tasks ask for it",
            numbers | {"budget": pools.settings.warm_seconds},
            extra={"bufpool": numbers},
        )


def _load_keys() -> None:
    try:
        current_keyring()
    except SealError:
        logger.exception("bufpool: no private keys; tasks with sealed arguments will fail")


def trim_pools() -> None:
    """Give idle memory above the warm levels back, with one line that says how much."""
    nbytes = memory.current_pools().trim()
    logger.info(
        "bufpool: %d bytes of idle memory given back, as asked",
        nbytes,
        extra={"bufpool": {"event": "trimmed", "bytes": nbytes}},
    )


def close_pools() -> None:
    """Close this process's pools at its end; what it counted stays in the node's totals."""
    global _warmed_pid  # noqa: PLW0603 - as above
    _warmed_pid = None
    memory.close_current_pools()
