"""The text before the values of a metric's samples, taken once from what prometheus_client writes.

Samples that differ in name and `le` alone are a unit: its lines stand together, and do not depend
on the metric's other units. It is written with values that tell which sample each line shows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client.metrics_core import Metric

from bufpool_workers.counters.format import SUMMED, Number, parse_key
from bufpool_workers.counters.series import Column
from bufpool_workers.metrics.merging import empty_metric, to_metrics

Write = Callable[[Iterable[Metric]], str]
UnitName = tuple[str, tuple[tuple[str, str], ...]]
"""A process, where each has its own numbers, and the labels but for `le`."""

_STAMPED: Final = 1.0


class SampleName(NamedTuple):
    """The family and unit of a key; `unit` is None where the metric's units look alike."""

    family: str
    unit: UnitName | None
    is_bucket: bool

    @classmethod
    def of(cls, key: bytes, *, kind: str, process: str) -> "SampleName":
        """Read the key of a number of that kind."""
        family, _, labels, _ = parse_key(key)
        is_bucket = kind == "histogram" and any(name == "le" for name, _ in labels)
        if is_bucket:
            labels = tuple(label for label in labels if label[0] != "le")
        is_clear = not (kind.startswith("gauge") and any(name == "pid" for name, _ in labels))
        return cls(family, (process, labels) if is_clear else None, is_bucket)


class Member(NamedTuple):
    """A number of a unit: its key, and its place among all numbers of a scrape."""

    key: bytes
    place: int
    is_bucket: bool


class Unit(NamedTuple):
    """The lines of a unit up to their values, and the member that each shows.

    The last `sums` lines add up their members, and the very last shows their sum.
    """

    keys: tuple[bytes, ...]
    lines: tuple[str, ...]
    order: tuple[int, ...]
    sums: int


def head(write: Write, kind: str, key: bytes) -> str:
    """Write what stands before the samples of the metric whose first key that is."""
    parsed = parse_key(key)
    return write([empty_metric(parsed.family, parsed.help, kind.partition("_")[0])])


def learn(
    write: Write, kind: str, units: Mapping[UnitName, Sequence[Member]]
) -> dict[UnitName, Unit] | None:
    """Return the lines of some units of a metric; None if they don't stand as described above."""
    lines = _written(write, kind, units)
    found: dict[UnitName, Unit] = {}
    for name, members in units.items():
        unit = _take(lines, members)
        if unit is None:
            return None
        found[name] = unit
    return None if lines else found


def _written(
    write: Write, kind: str, units: Mapping[UnitName, Sequence[Member]]
) -> list[tuple[str, float]]:
    """Write each line up to its value, and the value; the last one first."""
    stamped = (lambda mark: mark) if kind in SUMMED else (lambda mark: Number(mark, _STAMPED))
    columns = [
        Column(kind, process, [m.key for m in members], [stamped(_mark(m)) for m in members])
        for (process, _), members in units.items()
    ]
    (metric,) = to_metrics(columns, {})
    before = head(write, kind, columns[0].keys[0])
    written = write([metric])
    *lines, _end = written.removeprefix(before).split("\n")
    if not written.startswith(before) or len(lines) != len(metric.samples):
        return []  # with a second head, or without a sample
    split = (line.rpartition(" ") for line in reversed(lines))
    return [(f"\n{line} ", float(value)) for line, _, value in split]


def _mark(member: Member) -> float:
    """Make a value that no other member has; those of buckets, which are added up, are above 0."""
    return member.place + 1.0 if member.is_bucket else -1.0 - member.place


def _take(lines: list[tuple[str, float]], members: Sequence[Member]) -> Unit | None:
    """Take a unit's lines from the end; None if other lines stand there."""
    buckets = sum(member.is_bucket for member in members)
    if members[0].is_bucket or len(lines) < len(members) + bool(buckets):
        return None  # without another sample in front, it would stand behind all that have one
    by_mark = {_mark(member): at for at, member in enumerate(members)}
    taken: list[str] = []
    order: list[int] = []
    running = 0.0
    for is_bucket in sorted(member.is_bucket for member in members):
        line, value = lines.pop()
        at = by_mark.pop(value - running, None)
        if at is None or members[at].is_bucket != is_bucket:
            return None
        running = value if is_bucket else 0.0
        taken.append(line)
        order.append(at)
    if buckets:
        line, value = lines.pop()
        if value != running:
            return None
        taken.append(line)
        order.append(order[-1])
    keys = tuple(member.key for member in members)
    return Unit(keys, tuple(taken), tuple(order), buckets + bool(buckets))
