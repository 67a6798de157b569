"""All numbers of a directory at one moment, and how those of one series become one number."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import fsum
from typing import Any, NamedTuple

from bufpool_workers.counters._values import add_rows
from bufpool_workers.counters.columns import Part, Row, Shape
from bufpool_workers.counters.format import (
    PER_PROCESS,
    SUMMED,
    Number,
    add_up,
    merge_numbers,
)
from bufpool_workers.counters.liveness import ProcessIdentity
from bufpool_workers.counters.names import FileName
from bufpool_workers.counters.tasks import MOST_TASKS, fold_tasks

Group = tuple[str, str]
"""Files whose numbers are merged: their kind, and the process where each keeps its own."""


class LiveProcess(NamedTuple):
    """A process that counts now: the keys and values of its counters and gauges."""

    owner: ProcessIdentity
    counter_shape: Shape
    counter_row: Row
    gauge_shape: Shape
    gauge_row: Row

    @property
    def counters(self) -> Mapping[bytes, float]:
        """Its counters by key."""
        return dict(zip(self.counter_shape.keys, self.counter_row, strict=True))

    @property
    def gauges(self) -> Mapping[bytes, float]:
        """Its gauges by key."""
        return dict(zip(self.gauge_shape.keys, self.gauge_row, strict=True))


class Column(NamedTuple):
    """The merged values of a group: floats of kinds that are summed, else Numbers."""

    kind: str
    process: str
    keys: Sequence[bytes]
    values: Sequence[Any]


@dataclass(slots=True)
class Snapshot:
    """The numbers of all files of a directory.

    `unreadable` has the reason for each file that was not read, or not whole. `moments` says when
    the latest file with keys of a shape was made, and before all of these the latest merged one.
    `is_unmerged`: a compaction may find something to do.
    """

    rows: dict[Group, dict[Shape, list[Row]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    live: list[LiveProcess] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    moments: dict[tuple[str, Shape], int] = field(default_factory=dict)
    is_unmerged: bool = False

    def columns(self) -> list[Column]:
        """Merge the numbers of each key; counters come first."""
        groups = sorted(self.rows, key=lambda group: group[0] != "counter")
        return [Column(*group, *_merge(group[0], self.rows[group])) for group in groups]

    def merged(self) -> list[tuple[str, str, bytes, Number]]:
        """Merge each series into one number."""
        return [
            (kind, process, key, Number(value) if kind in SUMMED else value)
            for kind, process, keys, values in self.columns()
            for key, value in zip(keys, values, strict=True)
        ]

    def newest_modes(self) -> dict[str, str]:
        """Return the kind of each gauge's latest file, where its files are of several kinds.

        A deployment may change a gauge's mode in a directory that is kept.
        """
        kinds = {kind for kind, _ in self.moments if kind.startswith("gauge")}
        if len(kinds) < 2:  # noqa: PLR2004 - several
            return {}
        newest: dict[str, tuple[int, str]] = {}
        for (kind, shape), moment in self.moments.items():
            if kind in kinds:
                for family in shape.families:
                    newest[family] = max(newest.get(family, (moment, kind)), (moment, kind))
        return {family: kind for family, (_, kind) in newest.items()}

    def add(self, name: FileName, part: Part, *, moment: int = 0) -> None:
        """Add the entries of a file that was made at `moment`."""
        process = name.process if name.kind in PER_PROCESS else ""
        if part.row:
            self.rows[name.kind, process][part.shape].append(part.row)
            at = name.kind, part.shape
            self.moments[at] = max(moment, self.moments.get(at, moment))
        if part.problem:
            self.unreadable[name.name] = part.problem


def _merge(kind: str, rows: Mapping[Shape, list[Row]]) -> tuple[Sequence[bytes], Sequence[Any]]:
    shapes = list(rows)
    keys = shapes[0].keys if len(shapes) == 1 else tuple(chain(*(shape.keys for shape in shapes)))
    is_folded = sum(shape.tasks for shape in shapes) > MOST_TASKS
    if not is_folded and (len(shapes) == 1 or len(set(keys)) == len(keys)):
        return keys, [value for each in rows.values() for value in _merge_rows(kind, each)]
    found: dict[bytes, tuple[Any, ...]] = {}
    for shape, several in rows.items():
        for key, column in zip(shape.keys, zip(*several, strict=True), strict=True):
            found[key] = found[key] + column if key in found else column
    if is_folded:
        fold_tasks(found)
    return tuple(found), _merge_columns(kind, found.values())


def _merge_rows(kind: str, rows: list[Any]) -> list[Any]:
    """Merge rows of the same keys."""
    if kind in SUMMED:
        return add_rows(rows, add_up)
    return _merge_columns(kind, zip(*rows, strict=True))


def _merge_columns(kind: str, columns: Iterable[tuple[Any, ...]]) -> list[Any]:
    if kind not in SUMMED:
        return [merge_numbers(kind, column)[0] for column in columns]
    several = list(columns)
    try:
        return list(map(fsum, several))
    except (OverflowError, ValueError):  # beyond the largest float, or both infinities
        return list(map(add_up, several))
