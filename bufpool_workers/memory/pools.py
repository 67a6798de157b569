"""`Pools`: the three pools of a process, their statistics, and what happens at a task's end."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, MappingProxyType
from typing import NamedTuple

from bufpool_workers.memory import _core
from bufpool_workers.settings import KINDS, Settings

_PACKAGE = str(Path(__file__).parent.parent)


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolStats:
    """The numbers of one pool, or of one of its size classes, all of the same moment.

    Sizes are in bytes. gets = hits + misses always. `in_use` counts what is lent and what waits in
    quarantine for its last view; `bytes_allocated` is what was mapped, warm-up included, and
    `bytes_reused` what was served from the pool, both in class sizes; `held_bytes` is what the
    pool keeps, idle or in use; `limit_hits` are requests at its cap. All since the process began
    to use the pool.
    """

    gets: int = 0
    puts: int = 0
    hits: int = 0
    misses: int = 0
    discards: int = 0
    bytes_allocated: int = 0
    bytes_reused: int = 0
    escapes: int = 0
    reclaims: int = 0
    limit_hits: int = 0
    unlocked: int = 0
    idle: int = 0
    held_bytes: int = 0
    sizes: Mapping[str, PoolStats] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def in_use(self) -> int:
        """Buffers lent now, those in quarantine included."""
        return self.gets - self.puts

    @property
    def hit_rate(self) -> float:
        """Percentage of gets that found memory in the pool; 0 before the first."""
        return 100 * self.hits / self.gets if self.gets else 0.0

    @property
    def reuse_efficiency(self) -> float:
        """Percentage of all bytes, mapped and reused, that were reused; 0 before the first."""
        total = self.bytes_allocated + self.bytes_reused
        return 100 * self.bytes_reused / total if total else 0.0

    def __add__(self, other: PoolStats) -> PoolStats:
        """Add up two pools, class by class."""
        sizes = dict(self.sizes)
        for label, stats in other.sizes.items():
            sizes[label] = sizes[label] + stats if label in sizes else stats
        sums = {name: getattr(self, name) + getattr(other, name) for name in _core.FIELDS}
        return replace(self, **sums, sizes=MappingProxyType(sizes))


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolsStats:
    """The numbers of all pools of this process, and the level that secure memory has reached."""

    regular: PoolStats
    secure: PoolStats
    random: PoolStats
    total: PoolStats
    secure_level: str


class Warmth(NamedTuple):
    """What a warm-up achieved."""

    buffers: int
    nbytes: int
    complete: bool

    def __add__(self, other: object) -> Warmth:
        """Add up two warm-ups; complete when both are."""
        if not isinstance(other, Warmth):
            return NotImplemented
        return Warmth(
            self.buffers + other.buffers,
            self.nbytes + other.nbytes,
            self.complete and other.complete,
        )


class BufferPool(_core.PoolCore):
    """A pool of one kind: regular, secure or random.

    It has `acquire(nbytes)`, and `kind`, `labels`, `size_classes`, `max_bytes`,
    `max_buffer_bytes`, as it was made with. One pool serves all threads of its process, and after
    a fork the child's begins empty.
    """

    __slots__ = ("_levels",)

    def __init__(self, _kind: str, *, warm: Mapping[int, int], **_: object) -> None:
        self._levels = dict(warm)

    def stats(self) -> PoolStats:
        """Give this process's numbers, per size class too."""
        sizes = {
            label: replace(PoolStats(), **dict(zip(_core.FIELDS, map(int, numbers), strict=True)))
            for label, numbers in zip(self.labels, self.counters(), strict=True)
        }
        total = sum(sizes.values(), PoolStats())
        return replace(total, sizes=MappingProxyType(sizes))

    def warm(self, *, seconds: float = 2.0) -> Warmth:
        """Map and touch what `bufpool_warm` names, all buffers of a class held at once.

        What isn't reached within `seconds` is mapped later, when it is asked for. Warming again
        maps nothing that is there.
        """
        deadline = time.monotonic() + seconds
        buffers = nbytes = 0
        complete = True
        for size, count in self._levels.items():
            done = self.fill(size, count, max(deadline - time.monotonic(), 0.0))
            buffers += done
            nbytes += done * size
            complete = complete and done == count
        return Warmth(buffers, nbytes, complete)

    def trim(self) -> int:
        """Give all idle memory above the warm level back to the system; returns its bytes."""
        return self.shrink(all_idle=True)


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
                warm=settings.warm[kind],
                size_classes=settings.size_classes,
                max_bytes=settings.max_bytes[kind],
                max_buffer_bytes=settings.max_buffer_bytes,
                lend_at_limit=settings.at_limit == "lend",
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
            secure_level="plain",
        )

    def warm(self, *, seconds: float | None = None) -> Warmth:
        """Warm every pool to its level within `bufpool_warm_seconds`, or within `seconds`."""
        deadline = time.monotonic() + (self.settings.warm_seconds if seconds is None else seconds)
        warmth = Warmth(0, 0, complete=True)
        # the secure ones first: they are small, and their first use is the dearest
        for pool in reversed(self._all()):
            warmth += pool.warm(seconds=max(deadline - time.monotonic(), 0.0))
        return warmth

    def trim(self) -> int:
        """Give all idle memory above the warm levels back to the system; returns its bytes."""
        return sum(pool.trim() for pool in self._all())

    def close(self) -> None:
        """Lend no more; memory of buffers that are out goes when they do."""
        for pool in self._all():
            pool.close()

    def end_task(self, task_id: str, *, name: str, code: CodeType | None = None) -> int:
        """Take back what the task still holds, count it and warn; returns the number of buffers.

        Now and then, every `bufpool_trim_after_seconds`, it also gives memory back that was not
        needed since the last time.
        """
        taken = 0
        for scope in _core.leave_scope(task_id):
            for pool in self._all():
                for nbytes, viewed, place in pool.reclaim(scope):
                    taken += 1
                    _warn_reclaimed(
                        f"{pool.kind} pool: task {name} ended holding a buffer of {nbytes} bytes"
                        + (f", acquired at {place}" if place else "")
                        + ("; its memory is kept apart until the last view dies" if viewed else ""),
                        code,
                    )
        if time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + self.settings.trim_after_seconds
            for pool in self._all():
                pool.shrink(all_idle=False)
        return taken


def begin_task(task_id: str) -> None:
    """Note that a task begins in this context, so that `Pools.end_task` finds what it holds."""
    _core.enter_scope(task_id)


def _warn_reclaimed(message: str, code: CodeType | None) -> None:
    if code is None:
        warnings.warn(message, ResourceWarning, stacklevel=3)
    else:
        warnings.warn_explicit(message, ResourceWarning, code.co_filename, code.co_firstlineno)


def _caller() -> str:
    """Where the nearest frame outside this package stands."""
    frame = sys._getframe()  # noqa: SLF001 - the documented way to the caller's frame
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
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


def stats() -> PoolsStats:
    """Give the numbers of this process's pools: short for `current_pools().stats()`."""
    return current_pools().stats()


_core.on_first_use(current_pools)
