"""The numbers of the pools, as plain frozen objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

FIELDS = (
    "gets",
    "puts",
    "hits",
    "misses",
    "discards",
    "bytes_allocated",
    "bytes_reused",
    "escapes",
    "reclaims",
    "limit_hits",
    "unlocked",
    "damages",
    "idle",
    "held_bytes",
)
"""The counters of a size class, in the order in which the core keeps them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolStats:
    """The numbers of one pool, or of one of its size classes, all of the same moment.

    Sizes are in bytes. gets = hits + misses always. `in_use` counts what is lent and what waits in
    quarantine for its last view; `bytes_allocated` is what was mapped, warm-up included, and
    `bytes_reused` what was served from the pool, both in class sizes; `held_bytes` is what the
    pool keeps, idle or in use; `limit_hits` are requests at its cap; `unlocked` are secure
    and random buffers lent from memory that could not be locked; `damages` are those found written
    past their end. All since the process began to use the pool.
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
    damages: int = 0
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
        sums: dict[str, Any] = {n: getattr(self, n) + getattr(other, n) for n in FIELDS}
        return replace(self, **sums, sizes=MappingProxyType(sizes))

    @classmethod
    def of_classes(cls, labels: Iterable[str], counters: Iterable[Iterable[float]]) -> PoolStats:
        """Make a pool's numbers from those of its size classes, each in the order of FIELDS."""
        sizes: dict[str, PoolStats] = {}
        for label, values in zip(labels, counters, strict=True):
            numbers: dict[str, Any] = dict(zip(FIELDS, map(int, values), strict=True))
            sizes[label] = cls(**numbers)
        return replace(sum(sizes.values(), cls()), sizes=MappingProxyType(sizes))


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolsStats:
    """The numbers of all pools of this process, and the level that secure memory has reached."""

    regular: PoolStats
    secure: PoolStats
    random: PoolStats
    total: PoolStats
    secure_level: str


class WarmupResult(NamedTuple):
    """What a warm-up achieved."""

    buffers: int
    nbytes: int
    complete: bool

    def __add__(self, other: object) -> WarmupResult:
        """Add up two warm-ups; complete when both are."""
        if not isinstance(other, WarmupResult):
            return NotImplemented
        return WarmupResult(
            self.buffers + other.buffers,
            self.nbytes + other.nbytes,
            self.complete and other.complete,
        )
