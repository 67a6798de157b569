"""Warm-up and trimming of a process's pools, with a line in the log for each."""

from __future__ import annotations

import logging
import time

from bufpool_workers import memory
from bufpool_workers.errors import BufpoolError
from bufpool_workers.runtime.counting import CounterBinding
from bufpool_workers.units import format_bytes

logger = logging.getLogger(__name__)


def warm(pools: memory.Pools, counters: CounterBinding) -> None:
    """Warm the pools, and tune malloc if that is set; log what was reached, or what failed."""
    try:
        _warm(pools, counters)
    except (MemoryError, OSError, BufpoolError) as error:  # said in one line
        counters.set_warmed(warm=False)
        logger.error(  # noqa: TRY400 - where it was tried says nothing
            "bufpool: warm-up failed; buffers are mapped as tasks ask for them: %s", error
        )
    except Exception:
        counters.set_warmed(warm=False)
        logger.exception("bufpool: warm-up failed; buffers are mapped as tasks ask for them")


def _warm(pools: memory.Pools, counters: CounterBinding) -> None:
    began = time.perf_counter()
    warmth = pools.warm()
    if pools.settings.tune_malloc:  # pools count by now, so that a refusal shows as unwarmed
        from bufpool_workers.runtime import malloc  # noqa: PLC0415 - ctypes

        malloc.tune()
    counters.set_warmed(warm=warmth.complete)
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
            "bufpool: %(buffers)d buffers, %(size)s warm in %(seconds).4f s",
            numbers | {"size": format_bytes(warmth.nbytes)},
            extra={"bufpool": numbers},
        )
    else:
        logger.warning(
            "bufpool: %(buffers)d buffers, %(size)s warm when bufpool_warm_seconds "
            "(%(budget)g s) was over; the rest is mapped as tasks ask for it",
            numbers | {"size": format_bytes(warmth.nbytes), "budget": pools.settings.warm_seconds},
            extra={"bufpool": numbers},
        )


def trim(pools: memory.Pools) -> None:
    """Return idle memory above the warm levels to the system, and log how much."""
    nbytes = pools.trim()
    logger.info(
        "bufpool: %s of idle memory given back, as asked",
        format_bytes(nbytes),
        extra={"bufpool": {"event": "trimmed", "bytes": nbytes}},
    )
