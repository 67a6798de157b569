"""`Pools`: the three pools of a process, their statistics, and what happens at a task's end."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import CodeType

from bufpool_workers.memory import _core
from bufpool_workers.memory._core import BufferPool
from bufpool_workers.settings import Settings
from bufpool_workers.stats import KINDS, PoolsStats, Warmth

_PACKAGE = str(Path(__file__).parent.parent)


class Pools:
    """The `regular`, `secure` and `random` pool of a process, made from one `Settings`.

    `prepare` is called with each pool before its first use in a process, also in a forked child:
    the place to bind its counters.
    """

    __slots__ = ("_trim_at", "random", "regular", "secure", "settings")

    def __init__(
        self, settings: Settings, *, prepare: Callable[[BufferPool], None] | None = None
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
            )
            for kind in KINDS
        )
        self._trim_at = time.monotonic() + settings.trim_after_seconds

    def _all(self) -> tuple[BufferPool, BufferPool, BufferPool]:
        return self.regular, self.secure, self.random

    def stats(self) -> PoolsStats:
        """Give this process's numbers."""
        regular, secure, random = (pool.stats() for pool in self._all())
        return PoolsStats(
            regular=regular,
            secure=secure,
            random=random,
            total=regular + secure + random,
            secure_level=_core.secure_level(),
        )

    def warm(self, *, seconds: float | None = None) -> Warmth:
        """Warm every pool to its level within `bufpool_warm_seconds`, or within `seconds`."""
        deadline = time.monotonic() + (self.settings.warm_seconds if seconds is None else seconds)
        warmth = Warmth(0, 0, complete=True)
        # credentials first: the memory that may be locked can be short
        for pool in (self.secure, self.random, self.regular):
            warmth += pool.warm(seconds=max(deadline - time.monotonic(), 0.0))
        return warmth

    def trim(self) -> int:
        """Give all idle memory above the warm levels back to the system; returns its bytes."""
        return sum(pool.trim() for pool in self._all())

    def close(self) -> None:
        """Lend no more; memory of regular buffers that are out goes when they do.

        Secure and random buffers that are out are taken back and overwritten.
        """
        for pool in self._all():
            pool.close()

    def end_task(self, task_id: str, *, name: str, code: CodeType | None = None) -> int:
        """Take back what the task still holds, count it and warn; returns the number of buffers.

        Now and then, every `bufpool_trim_after_seconds`, it also gives memory back that was not
        needed since the last time.
        """
        taken = _core.end_scope(task_id, *self._all())
        if time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + self.settings.trim_after_seconds
            for pool in self._all():
                pool.trim(all_idle=False)
        # last, since a warning may be made an error
        for kind, nbytes, viewed, place in taken:
            if viewed:
                _core.note_escape(kind, place)
            _warn_reclaimed(
                f"{kind} pool: task {name} ended holding a buffer of {nbytes} bytes"
                + (f", acquired at {place}" if place else "")
                + ("; its memory is kept apart until the last view dies" if viewed else ""),
                code,
            )
        return len(taken)


def begin_task(task_id: str, *, nested: bool = True) -> None:
    """Note that a task begins in this context, so that `Pools.end_task` finds what it holds.

    Unless it may be `nested` in another one, tasks that are open here have ended without a word,
    as one does that an exception interrupts outside of its body: they are ended first.
    """
    while not nested and (open_task := _core.outermost_scope()):
        current_pools().end_task(open_task, name=open_task)
    _core.enter_scope(task_id)


def _warn_reclaimed(message: str, code: CodeType | None) -> None:
    if code is None:
        warnings.warn(message, ResourceWarning, stacklevel=3)
    else:
        warnings.warn_explicit(message, ResourceWarning, code.co_filename, code.co_firstlineno)


def _caller() -> str:
    """Where the nearest frame outside this package stands, or the function that a decorator calls.

    That one has no frame yet when its buffer is acquired, and above it are only those of Celery.
    """
    frame = sys._getframe()  # noqa: SLF001 - the documented way to the caller's frame
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        if (lent_to := frame.f_locals.get("lent_to")) is not None:
            return f"{lent_to.co_filename}:{lent_to.co_firstlineno}"
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


_source: Callable[[], Settings] = Settings
_prepare: Callable[[BufferPool], None] | None = None


def configure(
    source: Callable[[], Settings], *, prepare: Callable[[BufferPool], None] | None = None
) -> None:
    """Say where this process's pools get their settings from; read when they are first used.

    Pools that exist already are forgotten: buffers that are out stay valid, numbers begin anew.
    """
    global _source, _prepare
    _source, _prepare = source, prepare
    _core.uninstall()


def current_pools() -> Pools:
    """Give this process's pools; the first use makes them.

    Raises what the settings raise: ImproperlyConfigured under Celery.
    """
    return _core.installed_pools() or _core.install(Pools(_source(), prepare=_prepare))


def close_current_pools() -> PoolsStats | None:
    """Close this process's pools and give their last numbers; None when there were none.

    A later use makes new ones: the process may go on, as one with an embedded worker does.
    """
    pools = _core.installed_pools()
    if pools is None:
        return None
    _core.uninstall()
    numbers = pools.stats()
    pools.close()
    return numbers


def stats() -> PoolsStats:
    """Give the numbers of this process's pools: short for `current_pools().stats()`."""
    return current_pools().stats()


_core.on_first_use(current_pools)
