"""The counters of the pools: their names, meanings and sums, for every view of them.

The fields of `PoolStats` are the one table of counters. The order in which the core keeps them
(`FIELDS`), the metrics of the scrape and the list on the status page are made from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from bufpool_workers._record import record_class
from bufpool_workers.units import label_bytes

KINDS: Final = ("regular", "secure", "random")
"""The kinds of pools."""

PROTECTION: Final = MappingProxyType(
    {
        "plain": "may be swapped; root can read it",
        "mlock": "never swapped; root can read it",
        "memfd": "hidden from every other process, root included; never swapped",
    }
)
"""The meaning of each level of secure memory, from the lowest."""
LEVELS: Final = tuple(PROTECTION)
"""The levels of secure memory, from the lowest."""
RAISE_MEMLOCK: Final = (
    "raise RLIMIT_MEMLOCK (ulimit -l in KiB, LimitMEMLOCK= in a systemd unit, --ulimit "
    "memlock=BYTES for a container)"
)
"""The way to more secure memory, as errors, the doctor and the alerts word it."""


class Counter(NamedTuple):
    """A number that is counted for each size of each pool.

    `kind` is "counter" for a number that only grows, "gauge" for what a living process holds, and
    "derived" for a gauge that follows from counters. `suffix` is its metric's name after the
    namespace; `meaning` is the metric's help text.
    """

    name: str
    kind: str
    suffix: str
    meaning: str


def _count(meaning: str, *, kind: str = "counter", suffix: str = "") -> Any:
    return field(default=0, metadata={"kind": kind, "suffix": suffix, "meaning": meaning})


def hit_rate(hits: int, gets: int) -> float | None:
    """Return the percentage of gets that found memory in the pool; None before the first."""
    return 100 * hits / gets if gets else None


@record_class(frozen=True, kw_only=True, slots=True)
class PoolStats:
    """The numbers of a pool, or of one of its size classes, all of the same moment.

    In a process all numbers are since it began to use the pool. In a report the counters are of
    all processes that ever counted; `in_use`, `idle` and `held_bytes` are of living ones.
    """

    gets: int = _count("Buffers asked for, hits and misses together")
    """Buffers asked for; always `hits` + `misses`."""
    puts: int = _count("Buffers given back")
    """Buffers given back: released, dropped, or taken back at a task's end."""
    hits: int = _count("Buffers served from the pool")
    """Gets that found memory in the pool."""
    misses: int = _count("Buffers that memory had to be mapped for")
    """Gets for which memory had to be mapped."""
    discards: int = _count("Buffers that were not kept when given back")
    """Buffers whose memory went back to the system on release."""
    bytes_allocated: int = _count("Bytes mapped for buffers, warm-up included")
    """Bytes mapped for buffers, in sizes of their classes; warm-up included."""
    bytes_reused: int = _count("Bytes served from the pool")
    """Bytes of the hits, in sizes of their classes."""
    escapes: int = _count("Views that outlived their buffer")
    """Views that outlived their buffer."""
    reclaims: int = _count("Buffers dropped, or still held when their task ended")
    """Buffers that were dropped, or still held when their task ended."""
    limit_hits: int = _count("Requests that met the cap of their pool", suffix="limit")
    """Requests that met `bufpool_max_bytes`; `bufpool_limit_total` in the scrape."""
    unlocked: int = _count("Buffers lent below the level of protection of their pool")
    """Secure or random buffers lent below the best level of protection."""
    damages: int = _count("Buffers found written past their end, whose memory was retired")
    """Secure or random buffers that were written past their end."""
    in_use: int = _count(
        "Buffers lent out by living processes", kind="derived", suffix="buffers_in_use"
    )
    """Buffers that are out, those that wait for their last view included."""
    idle: int = _count(
        "Buffers that wait in the pools of living processes", kind="gauge", suffix="buffers_idle"
    )
    """Buffers that wait in the pool."""
    held_bytes: int = _count("Bytes held by living processes, idle and in use", kind="gauge")
    """Bytes that the pool holds, idle and in use."""
    sizes: Mapping[str, PoolStats] = field(default_factory=lambda: MappingProxyType({}))
    """The same numbers of each size class, by its label; empty for a single class."""

    @property
    def hit_rate(self) -> float | None:
        """Percentage of gets that found memory in the pool; None before the first."""
        return hit_rate(self.hits, self.gets)

    @property
    def reuse_efficiency(self) -> float | None:
        """Percentage of all bytes, mapped and reused, that were reused; None before the first."""
        total = self.bytes_allocated + self.bytes_reused
        return 100 * self.bytes_reused / total if total else None

    def __add__(self, other: PoolStats) -> PoolStats:
        """Add up two pools, class by class."""
        sizes = dict(self.sizes)
        for label, stats in other.sizes.items():
            sizes[label] = sizes[label] + stats if label in sizes else stats
        sums: dict[str, Any] = {
            c.name: getattr(self, c.name) + getattr(other, c.name) for c in TABLE
        }
        return type(self)(**sums, sizes=MappingProxyType(sizes))

    def __bool__(self) -> bool:
        """Return True if anything was counted."""
        return any(getattr(self, counter.name) for counter in TABLE)

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers and both rates, without those of the sizes, ready for JSON."""
        numbers = {counter.name: getattr(self, counter.name) for counter in TABLE}
        return numbers | {"hit_rate": self.hit_rate, "reuse_efficiency": self.reuse_efficiency}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Self:
        """Read what `as_dict` returned; numbers that only another version counts are left out."""
        known = (counter.name for counter in TABLE if counter.name in numbers)
        whole: dict[str, Any] = {name: int(numbers[name]) for name in known}
        return cls(**whole)

    @classmethod
    def of_counts(cls, counts: Mapping[str, float]) -> Self:
        """Return the numbers that a process keeps, by name, and those derived from them."""
        whole: dict[str, Any] = {name: int(count) for name, count in counts.items()}
        return cls(**whole, in_use=whole.get("gets", 0) - whole.get("puts", 0))

    @classmethod
    def of_sizes(cls, sizes: Mapping[str, PoolStats]) -> PoolStats:
        """Return a pool's numbers from those of its size classes, which it puts in their order."""
        ordered = {label: sizes[label] for label in sorted(sizes, key=_by_size)}
        columns = zip(*map(_numbers_of, ordered.values()), strict=True)
        sums: dict[str, Any] = dict(zip(_NAMES, map(sum, columns), strict=bool(ordered)))
        return cls(**sums, sizes=MappingProxyType(ordered))

    @classmethod
    def of_classes(cls, labels: Iterable[str], counters: Iterable[Iterable[float]]) -> PoolStats:
        """Return a pool's numbers from those of its size classes, each in the order of FIELDS."""
        rows = zip(labels, counters, strict=True)
        return cls.of_sizes(
            {label: cls.of_counts(dict(zip(FIELDS, row, strict=True))) for label, row in rows}
        )


def by_pool(sizes: Mapping[tuple[str, str], PoolStats]) -> dict[str, PoolStats]:
    """Return the pools by name, in their order, from the numbers of each pool and size."""
    pools: dict[str, dict[str, PoolStats]] = defaultdict(dict)
    for (pool, size), numbers in sizes.items():
        pools[pool][size] = numbers
    return {pool: PoolStats.of_sizes(pools[pool]) for pool in (*KINDS, *pools) if pool in pools}


@lru_cache(maxsize=1024)
def _by_size(label: str) -> tuple[float, str]:
    nbytes = label_bytes(label)
    return float("inf") if nbytes is None else nbytes, label


TABLE: Final = tuple(
    Counter(f.name, f.metadata["kind"], f.metadata["suffix"] or f.name, f.metadata["meaning"])
    for f in fields(PoolStats)
    if f.metadata
)
"""The table: every number of a pool."""
_NAMES: Final = tuple(c.name for c in TABLE)
_numbers_of: Final = attrgetter(*_NAMES)
FIELDS: Final = tuple(c.name for kind in ("counter", "gauge") for c in TABLE if c.kind == kind)
"""The numbers that the core keeps for a size class, in its order."""


@record_class(frozen=True, kw_only=True, slots=True)
class TaskStats:
    """The numbers of a task's runs, of all pools together; known with bufpool_task_metrics."""

    gets: int = _count("Buffers lent to runs of a task")
    """Buffers lent to runs of the task."""
    escapes: int = _count("Views that outlived a buffer of a task's run")
    """Views that outlived a buffer of such a run."""
    reclaims: int = _count("Buffers dropped by a task's run, or still held at its end")
    """Buffers that such a run dropped, or still held at its end."""
    peak_bytes: int = _count("Most bytes that runs of a task held at once in a process", kind="max")
    """The most bytes, as asked for, that its runs held at once in one process."""


TASK_TABLE: Final = tuple(
    Counter(f.name, f.metadata["kind"], f"task_{f.name}", f.metadata["meaning"])
    for f in fields(TaskStats)
)
"""The table of a task's numbers; kind "max" is for the largest of all processes."""
TASK_FIELDS: Final = tuple(c.name for c in TASK_TABLE)
"""The numbers that the core keeps for a task, in its order."""


@record_class(frozen=True, kw_only=True, slots=True)
class PoolsStats:
    """The numbers of all pools of this process, and the level that secure memory has reached."""

    regular: PoolStats
    """The numbers of the regular pool."""
    secure: PoolStats
    """The numbers of the secure pool."""
    random: PoolStats
    """The numbers of the random pool."""
    total: PoolStats
    """The sums of all three."""
    secure_level: str
    """The level of secure memory: "memfd", "mlock" or "plain" (memfd_secret(2), mlock(2))."""


class WarmupResult(NamedTuple):
    """The outcome of a warm-up."""

    buffers: int
    """Buffers that were mapped and touched."""
    nbytes: int
    """Their bytes, in sizes of their classes."""
    complete: bool
    """False if the time was over before all were mapped."""

    def __add__(self, other: object) -> WarmupResult:
        """Add up two warm-ups; complete when both are."""
        if not isinstance(other, WarmupResult):
            return NotImplemented
        return WarmupResult(
            self.buffers + other.buffers,
            self.nbytes + other.nbytes,
            self.complete and other.complete,
        )
