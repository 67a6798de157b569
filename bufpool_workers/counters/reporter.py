"""Reports of what a directory's files say: the numbers of all processes, and of each that lives."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from math import isnan
from operator import add, sub
from typing import Any, NamedTuple

from bufpool_workers._record import record_class
from bufpool_workers.counters import catalog as names
from bufpool_workers.counters._values import add_rows
from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.columns import Shape
from bufpool_workers.counters.format import SUMMED
from bufpool_workers.counters.history import read_history
from bufpool_workers.counters.liveness import ProcessIdentity
from bufpool_workers.counters.names import OWN_KIND, PEAK_KIND
from bufpool_workers.counters.node_file import NodeInfo, read_nodes
from bufpool_workers.counters.places import LIVING, Place, Places, Where
from bufpool_workers.counters.report import EscapePlace, ProcessReport, Report
from bufpool_workers.counters.series import Column, LiveProcess, Snapshot
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.counters.tasks import OTHER_TASKS
from bufpool_workers.counters.whole import whole, whole_sum
from bufpool_workers.pool_stats import LEVELS, PoolStats, TaskStats, by_pool

_Join = Callable[[int, int], int]
_TASK_SPECS: tuple[tuple[str, tuple[names.MetricSpec, ...], _Join], ...] = (
    (OWN_KIND, names.TASK_COUNTERS, add),
    (PEAK_KIND, (names.TASK_PEAK,), max),
)
_Sums = dict[Where, dict[str, int]]


def make_report(
    snapshot: Snapshot, *, catalog: Catalog, nodes: tuple[NodeInfo, ...] = ()
) -> Report:
    """Describe the node whose metrics directory was read."""
    return Reporter(catalog).report(snapshot, snapshot.columns(), nodes=nodes)


def read_report(
    directory: str | os.PathLike[str], *, namespace: str = names.DEFAULT_NAMESPACE
) -> Report:
    """Describe the node that counts in the directory, writing nothing there.

    Raises MetricsError when the directory can't be listed.
    """
    report = make_report(
        read_directory(directory), catalog=Catalog(namespace), nodes=read_nodes(directory)
    )
    return replace(report, history=read_history(directory, now=report.unix_seconds))


@record_class(frozen=True, kw_only=True, slots=True)
class Totals:
    """The numbers of a node that its scrape derives from: its report without each process.

    `numbers` has, by name, one for each pool and size of `sizes`, in that order.
    """

    sizes: tuple[Where, ...]
    numbers: Mapping[str, Sequence[int]]
    processes: int
    secure_level: str | None
    locked_bytes: int
    warmed_processes: int

    @property
    def total(self) -> PoolStats:
        """The numbers of all pools together."""
        sums: dict[str, Any] = {name: sum(each) for name, each in self.numbers.items()}
        return PoolStats(**sums)

    def column(self, name: str) -> Sequence[int]:
        """Return a number of each pool and size."""
        return self.numbers.get(name) or (0,) * len(self.sizes)


class Reporter:
    """Reader of the numbers of one catalog; it keeps where they lie in the shapes of files."""

    def __init__(self, catalog: Catalog) -> None:
        self._places = Places(catalog)

    def totals(self, snapshot: Snapshot, columns: Iterable[Column]) -> Totals:
        """Return what all processes counted, and what the living ones hold together."""
        lives = self._ours(snapshot)
        gauges = [self._gauges(files) for files in lives.values()]
        levels = [level for each in gauges for level in each.levels]
        sizes, numbers = self._numbers_of_sizes(lives, columns)
        return Totals(
            sizes=sizes,
            numbers=numbers,
            processes=len(lives),
            secure_level=LEVELS[min(levels)] if levels else None,
            locked_bytes=sum(each.locked_bytes for each in gauges),
            warmed_processes=sum(each.warmed is not False for each in gauges),
        )

    def report(
        self, snapshot: Snapshot, columns: Sequence[Column], *, nodes: tuple[NodeInfo, ...] = ()
    ) -> Report:
        """Describe the node and each of its living processes."""
        lives = self._ours(snapshot)
        return Report(
            unix_seconds=time.time(),
            pools=self._pools(lives, columns),
            processes=tuple(self._process(owner, files) for owner, files in lives.items()),
            skipped=dict(snapshot.unreadable),
            escape_places=self._escape_places(columns),
            nodes=nodes,
            unsealed=sum(self._counts(columns, names.UNSEALED).values()),
            unseal_failures=self.unseal_failures(columns),
            tasks=self._tasks(columns),
        )

    def unseal_failures(self, columns: Iterable[Column]) -> dict[str, int]:
        """Return how many sealed arguments did not open, by the reason."""
        counts = self._counts(columns, names.UNSEAL_FAILED)
        return {reason: number for (_, reason), number in counts.items() if number}

    def _ours(self, snapshot: Snapshot) -> dict[ProcessIdentity, list[LiveProcess]]:
        """Return the files of living processes of this namespace; several may share a directory."""
        lives: dict[ProcessIdentity, list[LiveProcess]] = defaultdict(list)
        for live in snapshot.live:
            if self._places.of_process(live.gauge_shape):
                lives[live.owner].append(live)
        return lives

    def _pools(
        self, lives: Mapping[Any, Sequence[LiveProcess]], columns: Iterable[Column]
    ) -> dict[str, PoolStats]:
        sizes, numbers = self._numbers_of_sizes(lives, columns)
        rows = zip(*numbers.values(), strict=True)
        stats = (PoolStats(**dict(zip(numbers, row, strict=True))) for row in rows)
        return by_pool(dict(zip(sizes, stats, strict=bool(numbers))))

    def _numbers_of_sizes(
        self, lives: Mapping[Any, Sequence[LiveProcess]], columns: Iterable[Column]
    ) -> tuple[tuple[Where, ...], dict[str, list[int]]]:
        """Return all pools and sizes, and by name the numbers of each."""
        counters = next((column for column in columns if column.kind == OWN_KIND), None)
        if counters is None:
            return (), {}
        index = self._places.index(OWN_KIND, counters.keys)
        held = {name: [0] * len(index.sizes) for name in LIVING}
        for shape, rows in _rows_of_living(lives).items():
            sums = add_rows(rows, whole_sum)
            for name, more in self._places.of_living(index, shape).numbers(sums).items():
                held[name] = list(map(add, held[name], more))
        numbers = index.pools.numbers(counters.values)
        numbers["in_use"] = list(map(sub, held.pop("gets"), held.pop("puts")))
        return index.sizes, numbers | held

    def _numbers(
        self, columns: Iterable[Column], spec: names.MetricSpec, *, kind: str = OWN_KIND
    ) -> Iterator[tuple[Where, int]]:
        """Yield the numbers of a metric that is not the pools', with their labels."""
        for column in columns:
            if column.kind == kind:
                for where, at in self._places.others(spec, kind, column.keys):
                    value = column.values[at]
                    yield where, whole(value if kind in SUMMED else value.value)

    def _counts(self, columns: Iterable[Column], spec: names.MetricSpec) -> dict[Where, int]:
        """Return a counter that is not the pools', by its label `pool` and its other one."""
        counts: dict[Where, int] = defaultdict(int)
        for where, number in self._numbers(columns, spec):
            counts[where] += number
        return counts

    def _escape_places(self, columns: Iterable[Column]) -> tuple[EscapePlace, ...]:
        """Return where escaped buffers were acquired, the most frequent first."""
        found = [
            EscapePlace(pool=pool, place=place, escapes=count)
            for (pool, place), count in self._counts(columns, names.ESCAPED_AT).items()
        ]
        return tuple(sorted(found, key=lambda place: (-place.escapes, place.place, place.pool)))

    def _tasks(self, columns: Sequence[Column]) -> dict[str, TaskStats]:
        """Return the numbers of the tasks that were lent buffers, the busiest first."""
        found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for kind, specs, join in _TASK_SPECS:
            for spec in specs:
                for (_, task), number in self._numbers(columns, spec, kind=kind):
                    found[task][spec.field] = join(found[task][spec.field], number)
        tasks = {task: TaskStats(**counts) for task, counts in found.items()}
        ordered = sorted(tasks, key=lambda task: (task == OTHER_TASKS, -tasks[task].gets, task))
        return {task: tasks[task] for task in ordered if tasks[task].gets}

    def _gauges(self, files: Sequence[LiveProcess]) -> _Gauges:
        rows = (
            [live.gauge_row[at] for at in self._places.of_process(live.gauge_shape) or ()]
            for live in files
        )
        # NaN: never said, or the process goes on in another file
        levels, locked, warmed = (
            [whole(value) for value in values if not isnan(value)]
            for values in zip(*rows, strict=True)
        )
        return _Gauges(
            levels=[max(0, min(level, len(LEVELS) - 1)) for level in levels],
            locked_bytes=sum(locked),
            warmed=any(warmed) if warmed else None,
        )

    def _process(self, owner: ProcessIdentity, files: Sequence[LiveProcess]) -> ProcessReport:
        """Describe a living process by all the files that it has counted in."""
        sums: _Sums = defaultdict(lambda: defaultdict(int))
        for live in files:
            for shape, row in (
                (live.counter_shape, live.counter_row),
                (live.gauge_shape, live.gauge_row),
            ):
                _add_up(sums, compress(self._places.of_pools(shape), row), compress(row, row))
        sizes = {place: PoolStats.of_counts(numbers) for place, numbers in sums.items()}
        gauges = self._gauges(files)
        return ProcessReport(
            pid=owner.pid,
            age_seconds=owner.age_seconds(),
            warmed=gauges.warmed,
            secure_level=LEVELS[min(gauges.levels)] if gauges.levels else None,
            locked_bytes=gauges.locked_bytes,
            pools=by_pool({place: numbers for place, numbers in sizes.items() if numbers}),
        )


class _Gauges(NamedTuple):
    levels: list[int]
    locked_bytes: int
    warmed: bool | None


def _add_up(sums: _Sums, places: Iterable[Place | None], values: Iterable[float]) -> None:
    for place, value in zip(places, values, strict=True):
        if place:
            where, name = place
            sums[where][name] += whole(value)


def _rows_of_living(
    lives: Mapping[Any, Sequence[LiveProcess]],
) -> Mapping[Shape, list[Any]]:
    rows: dict[Shape, list[Any]] = defaultdict(list)
    for files in lives.values():
        for live in files:
            rows[live.counter_shape].append(live.counter_row)
            rows[live.gauge_shape].append(live.gauge_row)
    return rows
