"""A scrape's text without an object for each sample: the very bytes that prometheus_client writes.

It has written each line once itself; what follows only puts the values of the moment behind what
stood before them. Metrics that are not as expected go through prometheus_client each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from math import copysign
from typing import Any, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from bufpool_workers.counters.format import LATEST, SUMMED
from bufpool_workers.counters.series import Column
from bufpool_workers.metrics.merging import to_metrics
from bufpool_workers.metrics.units import Member, SampleName, Unit, UnitName, Write, head, learn

_MOST_TEXTS: Final = 4096


class _Given:
    """A registry of what is given."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


class Format:
    """One of the formats of a scrape, by prometheus_client's own encoder."""

    def __init__(self, encoder: Callable[..., bytes]) -> None:
        self._encoder = encoder
        self._end = encoder(_Given([])).decode()  # OpenMetrics has one
        self.merged = Lines(self.metrics)
        self.derived = Lines(self.metrics)

    def metrics(self, metrics: Iterable[Metric]) -> str:
        """Write metrics, by prometheus_client, without the format's end."""
        return self._encoder(_Given(metrics)).decode().removesuffix(self._end)

    def joined(self, *texts: str) -> bytes:
        """Make one text of several, with the format's end."""
        return "".join((*texts, self._end)).encode()


class _Family:
    """A metric while its lines are put together: its members, and where they lie."""

    def __init__(self, kind: str, key: bytes) -> None:
        self.kind = kind
        self.key = key
        self.is_clear = True
        self.units: dict[UnitName, list[Member]] = {}
        self.columns: dict[int, list[int]] = {}


class _Run:
    """Metrics that follow each other, each written from its lines."""

    def __init__(self, *, is_signed: bool) -> None:
        self.is_signed = is_signed  # the client adds others up from zero, which has no sign then
        self._before: list[str] = []
        self._order: list[int] = []
        self._sums: list[slice] = []

    def add(self, text: str, members: Iterable[Sequence[Member]], units: Iterable[Unit]) -> None:
        """Add a metric: what stands before its samples, and its units."""
        first = len(self._before)
        for own, unit in zip(members, units, strict=True):
            self._before += unit.lines
            self._order += [own[at].place for at in unit.order]
            if unit.sums:
                self._sums.append(slice(len(self._before) - unit.sums, len(self._before)))
        line = self._before[first]
        self._before[first] = ("\n" if first else "") + text + line.removeprefix("\n")

    def write(self, values: Sequence[float]) -> str:
        """Write the metrics with these values of all numbers of the scrape."""
        ordered = list(map(values.__getitem__, self._order))
        for sums in self._sums:
            *buckets, last = accumulate(ordered[sums.start : sums.stop - 1])
            ordered[sums] = (*buckets, last, last)
        texts = _signed_texts(ordered) if self.is_signed else _texts(ordered)
        return "".join(chain.from_iterable(zip(self._before, texts, strict=True))) + "\n"


class Lines:
    """The lines of columns' metrics, as of the last keys."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._names: dict[tuple[str, str], dict[bytes, SampleName]] = {}
        self._units: dict[tuple[str, UnitName], Unit] = {}
        self._layout: Sequence[Any] = ()
        self._parts: list[_Run | _Family] = []

    def text(self, columns: Sequence[Column], modes: Mapping[str, str]) -> str:
        """Write the metrics of the columns; for `modes` see `to_metrics`."""
        layout = [(kind, of, keys, _unstamped(kind, values)) for kind, of, keys, values in columns]
        if layout != self._layout:
            self._parts = self._learn(layout)
            self._layout = layout
        values = list(chain.from_iterable(map(_floats, columns)))
        return "".join(
            part.write(values) if isinstance(part, _Run) else self._odd(part, columns, modes)
            for part in self._parts
        )

    def _odd(self, family: _Family, columns: Sequence[Column], modes: Mapping[str, str]) -> str:
        chosen = (
            columns[number]._replace(
                keys=[columns[number].keys[place] for place in places],
                values=[columns[number].values[place] for place in places],
            )
            for number, places in family.columns.items()
        )
        return self._write(to_metrics(chosen, modes))

    def _learn(self, layout: Sequence[Any]) -> list[_Run | _Family]:
        parts: list[_Run | _Family] = []
        units: dict[tuple[str, UnitName], Unit] = {}
        for name, family in self._families(layout).items():
            known = self._known(name, family) if family.is_clear else None
            if not known:
                parts.append(family)
                continue
            units.update(((name, unit), lines) for unit, lines in known.items())
            is_signed = family.kind not in SUMMED
            run = parts[-1] if parts else None
            if not isinstance(run, _Run) or run.is_signed != is_signed:
                run = _Run(is_signed=is_signed)
                parts.append(run)
            text = head(self._write, family.kind, family.key)
            run.add(text, family.units.values(), known.values())
        self._units = units
        return parts

    def _families(self, layout: Sequence[Any]) -> dict[str, _Family]:
        families: dict[str, _Family] = {}
        before = 0
        names, self._names = self._names, {}
        for number, (kind, process, keys, unstamped) in enumerate(layout):
            known = self._names[kind, process] = self._read(kind, process, keys, names)
            for place, key in enumerate(keys):
                name, unit, is_bucket = known[key]
                family = families.get(name)
                if family is None:
                    family = families[name] = _Family(kind, key)
                family.columns.setdefault(number, []).append(place)
                if unit is None or family.kind != kind:
                    family.is_clear = False
                elif place not in unstamped:
                    member = Member(key, before + place, is_bucket)
                    family.units.setdefault(unit, []).append(member)
            before += len(keys)
        return families

    def _read(
        self,
        kind: str,
        process: str,
        keys: Sequence[bytes],
        names: Mapping[tuple[str, str], Mapping[bytes, SampleName]],
    ) -> dict[bytes, SampleName]:
        known = names.get((kind, process), {})
        return {
            key: known.get(key) or SampleName.of(key, kind=kind, process=process) for key in keys
        }

    def _known(self, name: str, family: _Family) -> dict[UnitName, Unit] | None:
        """Return the lines of a metric's units; None if prometheus_client has to write it."""
        found: dict[UnitName, Unit] = {}
        new: dict[UnitName, list[Member]] = {}
        for unit, members in family.units.items():
            lines = self._units.get((name, unit))
            if lines and lines.keys == tuple(member.key for member in members):
                found[unit] = lines
            else:
                new[unit] = members
        if not new:
            return found
        learned = learn(self._write, family.kind, new)
        if learned is None:
            return None
        return {unit: found.get(unit) or learned[unit] for unit in family.units}


def _unstamped(kind: str, values: Iterable[Any]) -> frozenset[int]:
    """Return the places of values that were never set, of a kind whose latest one counts."""
    if kind not in LATEST:
        return frozenset()
    return frozenset(at for at, number in enumerate(values) if not number.timestamp > 0)


def _floats(column: Column) -> Iterable[float]:
    return column.values if column.kind in SUMMED else [value for value, _ in column.values]


class _Texts(dict[float, str]):
    """Values as the client writes them, as many as are worth keeping."""

    def __missing__(self, value: float) -> str:
        text: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # it ships no types
        if len(self) < _MOST_TEXTS and value == value:  # noqa: PLR0124 - no NaN is found again
            self[value] = text
        return text


_text_of = _Texts({0.0: "0.0"}).__getitem__  # the sign of a zero is seen to by `_signed_texts`


def _texts(values: Iterable[float]) -> list[str]:
    return list(map(_text_of, values))


def _signed_texts(values: Sequence[float]) -> list[str]:
    texts = _texts(values)
    for place, value in enumerate(values):
        if not value and copysign(1.0, value) < 0:
            texts[place] = "-0.0"
    return texts
