"""`Pools`: the three pools of a process, their statistics, and what happens at a task's end."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from types import CodeType

from bufpool_workers._docs import documented
from bufpool_workers.memory import _core
from bufpool_workers.memory._core import BufferPool, TaskTally
from bufpool_workers.memory._mapping import secure_level
from bufpool_workers.pool_stats import KINDS, PoolsStats, WarmupResult
from bufpool_workers.settings import Settings

_PACKAGE = "bufpool_workers"


@documented
class Pools:
    """The `regular`, `secure` and `random` pool of a process, made from one `Settings`.

    `prepare` is called with each pool before its first use in a process, also in a forked child:
    it can bind the pool's counters. `tally` returns what counts for a task, by its name, where
    `bufpool_task_metrics` is on.
    """

    settings: Settings
    """The settings that they were made from."""
    regular: BufferPool
    """The pool of plain memory, whose buffers have undefined contents."""
    secure: BufferPool
    """The pool of memory for credentials: zeroed when taken and when given back."""
    random: BufferPool
    """The pool of random bytes: filled when taken, overwritten when given back."""

    __slots__ = ("_trim_at", "random", "regular", "secure", "settings")

    def __init__(
        self,
        settings: Settings,
        *,
        prepare: Callable[[BufferPool], None] | None = None,
        tally: Callable[[str], TaskTally] | None = None,
    ) -> None:
        self.settings = settings
        self.regular, self.secure, self.random = (
            BufferPool(
                kind,
                warm=dict(settings.warm[kind]),
                size_classes=settings.size_classes,
                max_bytes=settings.max_bytes[kind],
                max_buffer_bytes=settings.max_buffer_bytes,
                lend_at_limit=settings.at_limit == "lend",
                secure_level=settings.secure_level,
                prepare=prepare,
                locate=_caller if settings.debug else None,
                tally=tally if settings.task_metrics else None,
            )
            for kind in KINDS
        )
        self._trim_at = time.monotonic() + settings.trim_after_seconds

    def _all(self) -> tuple[BufferPool, BufferPool, BufferPool]:
        return self.regular, self.secure, self.random

    def stats(self) -> PoolsStats:
        """Return this process's numbers."""
        regular, secure, random = (pool.stats() for pool in self._all())
        return PoolsStats(
            regular=regular,
            secure=secure,
            random=random,
            total=regular + secure + random,
            secure_level=secure_level(),
        )

    def warm(self, *, seconds: float | None = None) -> WarmupResult:
        """Warm every pool to its level within `bufpool_warm_seconds`, or within `seconds`."""
        deadline = time.monotonic() + (self.settings.warm_seconds if seconds is None else seconds)
        warmth = WarmupResult(0, 0, complete=True)
        # credentials first: the memory that may be locked can be short
        for pool in (self.secure, self.random, self.regular):
            warmth += pool.warm(seconds=max(deadline - time.monotonic(), 0.0))
        return warmth

    def trim(self) -> int:
        """Return all idle memory above the warm levels to the system; return its bytes."""
        return sum(pool.trim() for pool in self._all())

    def close(self) -> None:
        """Close all three. Regular buffers that are out stay valid until they are released.

        Secure and random ones are taken back and overwritten.
        """
        for pool in self._all():
            pool.close()

    def __repr__(self) -> str:
        pools = ", ".join(f"{pool.kind}={pool!r}" for pool in self._all())
        return f"<bufpool_workers.Pools, {pools}>"

    def end_task(self, task_id: str, *, name: str, code: CodeType | None = None) -> int:
        """Take back what the task still holds, count it and warn; return the number of buffers.

        Every `bufpool_trim_after_seconds`, it also returns memory to the system that was not
        needed since the last time.
        """
        taken = _core.end_scope(task_id, *self._all())
        _core.tell_noted()
        if time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + self.settings.trim_after_seconds
            for pool in self._all():
                pool.trim(all_idle=False)
        # last, since a warning may be made an error
        for kind, nbytes, viewed, place in taken:
            note = functools.partial(
                _core.note_misuse, kind=kind, nbytes=nbytes, place=place, blame=code, task=name
            )
            note("reclaims")
            if viewed:
                note("escapes")
            _core.warn_reclaimed(
                f"{kind} pool: task {name} ended holding a buffer of {nbytes} bytes"
                + (f", acquired at {place}" if place else "")
                + ("; its memory is kept apart until the last view dies" if viewed else ""),
                code,
            )
        return len(taken)


def _caller() -> str:
    """Return the place of the nearest frame outside this package, or a decorated function's.

    That function has no frame yet when its buffer is acquired; only Celery's frames are above it.
    """
    frame = sys._getframe()  # noqa: SLF001 - the documented way to the caller's frame
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        if (blame := frame.f_locals.get("_bufpool_blame")) is not None:
            return f"{blame.co_filename}:{blame.co_firstlineno}"
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == _PACKAGE
