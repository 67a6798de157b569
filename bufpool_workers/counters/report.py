"""The report on a node, for people and programs: every view of a node is drawn from it."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import compress
from math import isnan
from operator import add, itemgetter, sub
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

from bufpool_workers._docs import documented
from bufpool_workers.counters import catalog as names
from bufpool_workers.counters._values import add_rows
from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.columns import Shape
from bufpool_workers.counters.format import parse_key
from bufpool_workers.counters.history import History, read_history
from bufpool_workers.counters.liveness import ProcessIdentity
from bufpool_workers.counters.names import OWN_KIND, PEAK_KIND
from bufpool_workers.counters.node_file import NodeInfo, read_nodes
from bufpool_workers.counters.snapshot import Column, LiveProcess, Snapshot, read_directory
from bufpool_workers.counters.tasks import OTHER_TASKS, task_of
from bufpool_workers.pool_stats import KINDS, LEVELS, TASK_FIELDS, PoolStats, TaskStats


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """A living process."""

    pid: int
    """Its process id, in its own namespace."""
    age_seconds: float
    """Seconds since it began."""
    warmed: bool | None
    """True once it is warm; None for a process that needs no warming: a script, a web server."""
    secure_level: str | None
    """The lowest level of its secure memory, or what it would get while it has none."""
    locked_bytes: int
    """Bytes of secure memory that it has locked."""
    pools: Mapping[str, PoolStats]
    """The numbers of its pools by kind, of the sizes that it has used or holds."""

    @property
    def total(self) -> PoolStats:
        """The numbers of all its pools together."""
        return sum(self.pools.values(), PoolStats())

    def as_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON."""
        return {
            "pid": self.pid,
            "age_seconds": self.age_seconds,
            "warmed": self.warmed,
            "secure_level": self.secure_level,
            "locked_bytes": self.locked_bytes,
            "total": self.total.as_dict(),
            "pools": _pools_as_dict(self.pools),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Read what `as_dict` returned."""
        kept = {f.name: given[f.name] for f in fields(cls) if f.name != "pools"}
        return cls(**kept, pools=_pools_from_dict(given["pools"]))


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class EscapePlace:
    """A place where escaped buffers were acquired, and how many; known with bufpool_debug."""

    pool: str
    """The kind of the pool."""
    place: str
    """The file and line."""
    escapes: int
    """Views that outlived buffers of that place."""


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A node at one moment: its pools over all processes, and each process that lives."""

    unix_seconds: float
    """The moment, in seconds of the Unix epoch."""
    pools: Mapping[str, PoolStats]
    """The numbers of the pools by kind, over all processes that ever counted."""
    processes: tuple[ProcessReport, ...] = ()
    """The living processes."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """The reason for each metric file that could not be read, by its name."""
    escape_places: tuple[EscapePlace, ...] = ()
    """Where escaped buffers were acquired; known with `bufpool_debug`."""
    nodes: tuple[NodeInfo, ...] = ()
    """The nodes that say who they are; scripts and web servers count without."""
    unsealed: int = 0
    """Sealed arguments that opened."""
    unseal_failures: Mapping[str, int] = field(default_factory=dict)
    """Sealed arguments that did not open, by the reason."""
    history: History | None = None
    """Samples of the last hour; None where nobody serves, and so nobody samples."""
    tasks: Mapping[str, TaskStats] = field(default_factory=dict)
    """The numbers of each task, the busiest first; known with `bufpool_task_metrics`."""

    @property
    def total(self) -> PoolStats:
        """The numbers of all pools together."""
        return sum(self.pools.values(), PoolStats())

    @property
    def secure_level(self) -> str | None:
        """The lowest level of protection that secure memory has in a living process."""
        levels = [process.secure_level for process in self.processes if process.secure_level]
        return min(levels, key=LEVELS.index, default=None)

    @property
    def locked_bytes(self) -> int:
        """Bytes of secure memory that living processes have locked."""
        return sum(process.locked_bytes for process in self.processes)

    @property
    def warmed_processes(self) -> int:
        """The number of living processes that are warm or don't need warming."""
        return sum(process.warmed is not False for process in self.processes)

    def as_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON; keys are only ever added."""
        return {
            "unix_seconds": self.unix_seconds,
            "secure_level": self.secure_level,
            "locked_bytes": self.locked_bytes,
            "warmed_processes": self.warmed_processes,
            "total": self.total.as_dict(),
            "pools": _pools_as_dict(self.pools),
            "processes": [process.as_dict() for process in self.processes],
            "skipped": dict(self.skipped),
            "escape_places": [asdict(place) for place in self.escape_places],
            "nodes": [node.as_dict() for node in self.nodes],
            "unsealed": self.unsealed,
            "unseal_failures": dict(self.unseal_failures),
            "history": None if self.history is None else self.history.as_dict(),
            "tasks": {task: asdict(numbers) for task, numbers in self.tasks.items()},
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Read what `as_dict` returned, as another node sends it."""
        return cls(
            unix_seconds=given["unix_seconds"],
            pools=_pools_from_dict(given["pools"]),
            processes=tuple(ProcessReport.from_dict(process) for process in given["processes"]),
            skipped=given["skipped"],
            escape_places=tuple(
                EscapePlace(pool=place["pool"], place=place["place"], escapes=place["escapes"])
                for place in given.get("escape_places", ())
            ),
            nodes=tuple(NodeInfo.from_dict(node) for node in given.get("nodes", ())),
            unsealed=given.get("unsealed", 0),
            unseal_failures=given.get("unseal_failures", {}),
            history=History.from_dict(given["history"]) if given.get("history") else None,
            tasks={
                task: TaskStats(**{name: int(numbers[name]) for name in TASK_FIELDS})
                for task, numbers in given.get("tasks", {}).items()
            },
        )


def _pools_as_dict(pools: Mapping[str, PoolStats]) -> dict[str, Any]:
    return {
        name: {
            "total": pool.as_dict(),
            "sizes": {label: numbers.as_dict() for label, numbers in pool.sizes.items()},
        }
        for name, pool in pools.items()
    }


def _pools_from_dict(pools: Mapping[str, Any]) -> dict[str, PoolStats]:
    return {
        name: PoolStats.of_sizes(
            {label: PoolStats.from_dict(numbers) for label, numbers in pool["sizes"].items()}
        )
        for name, pool in pools.items()
    }


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The numbers of a node that its scrape derives from: its report without each process.

    `numbers` has, by name, one for each pool and size of `sizes`, in that order.
    """

    sizes: tuple[tuple[str, str], ...]
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
        specs = names.COUNTERS + names.POOL_GAUGES
        self._fields = {catalog.name(spec): spec.field for spec in specs}
        self._catalog = catalog
        self._keys = [catalog.key(spec) for spec in names.PROCESS_GAUGES]
        self._start = f'["{catalog.namespace}_'.encode()
        self._numbers: WeakKeyDictionary[Shape, list[_Place | None]] = WeakKeyDictionary()
        self._indexed: _Index | None = None
        self._process_gauges: WeakKeyDictionary[Shape, list[int]] = WeakKeyDictionary()

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
            unseal_failures={
                reason: number
                for (_, reason), number in self._counts(columns, names.UNSEAL_FAILED).items()
                if number
            },
            tasks=self._tasks(columns),
        )

    def _ours(self, snapshot: Snapshot) -> dict[ProcessIdentity, list[LiveProcess]]:
        """Return the files of living processes of this namespace; several may share a directory."""
        lives: dict[ProcessIdentity, list[LiveProcess]] = defaultdict(list)
        for live in snapshot.live:
            if len(self._places_of_gauges(live.gauge_shape)) == len(self._keys):
                lives[live.owner].append(live)
        return lives

    def _places_of_gauges(self, shape: Shape) -> list[int]:
        places = self._process_gauges.get(shape)
        if places is None:
            at = {key: place for place, key in enumerate(shape.keys)}
            places = self._process_gauges[shape] = [at[key] for key in self._keys if key in at]
        return places

    def _places_of_numbers(self, shape: Shape) -> list[_Place | None]:
        places = self._numbers.get(shape)
        if places is None:
            places = self._numbers[shape] = list(map(self._place, shape.keys))
        return places

    def _place(self, key: bytes) -> _Place | None:
        if not key.startswith(self._start):
            return None  # one of very many
        family, _, labels, _ = parse_key(key)
        name = self._fields.get(family)
        if name is None:
            return None
        named = dict(labels)
        return (named.get("pool", ""), named.get("size", "")), name

    def _pools(
        self, lives: Mapping[Any, Sequence[LiveProcess]], columns: Iterable[Column]
    ) -> dict[str, PoolStats]:
        sizes, numbers = self._numbers_of_sizes(lives, columns)
        rows = zip(*numbers.values(), strict=True)
        stats = (PoolStats(**dict(zip(numbers, row, strict=True))) for row in rows)
        return _by_pool(dict(zip(sizes, stats, strict=bool(numbers))))

    def _numbers_of_sizes(
        self, lives: Mapping[Any, Sequence[LiveProcess]], columns: Iterable[Column]
    ) -> tuple[tuple[tuple[str, str], ...], dict[str, list[int]]]:
        """Return all pools and sizes, and by name the numbers of each."""
        counters = next((column for column in columns if column.kind == "counter"), None)
        if counters is None:
            return (), {}
        index = self._index(counters.keys)
        held = {name: [0] * len(index.sizes) for name in _OF_LIVING}
        for shape, rows in _rows_of_living(lives).items():
            sums = add_rows(rows, _whole_sum)
            for name, more in self._places_of_held(index, shape).numbers(sums).items():
                held[name] = list(map(add, held[name], more))
        numbers = index.counters.numbers(counters.values)
        numbers["in_use"] = list(map(sub, held.pop("gets"), held.pop("puts")))
        return index.sizes, numbers | held

    def _places_of_held(self, index: _Index, shape: Shape) -> _Places:
        found = index.held.get(shape)
        if found is None:
            places = self._places_of_numbers(shape)
            of_living = ((at, place) for at, place in enumerate(places) if place)
            found = index.held[shape] = _Places.of(
                ((at, place) for at, place in of_living if place[1] in _OF_LIVING), index.sizes
            )
        return found

    def _index(self, keys: Sequence[bytes]) -> _Index:
        """Return where ours lie among the counters of all processes."""
        if self._indexed is None or self._indexed.keys != keys:
            self._indexed = self._indexed_anew(keys)
        return self._indexed

    def _indexed_anew(self, keys: Sequence[bytes]) -> _Index:
        found: list[tuple[int, _Place]] = []
        others: dict[str, list[tuple[tuple[str, str], int]]] = defaultdict(list)
        for at, key in enumerate(keys):
            if place := self._place(key):
                found.append((at, place))
            elif key.startswith(self._start):
                family, _, labels, _ = parse_key(key)
                named = dict(labels)
                pool = named.pop("pool", "")
                others[family].append(((pool, "".join(named.values())), at))
        pools = _by_pool({where: PoolStats() for _, (where, _) in found})
        sizes = tuple((pool, size) for pool, stats in pools.items() for size in stats.sizes)
        return _Index(keys, sizes, _Places.of(found, sizes), others)

    def _counts(
        self, columns: Iterable[Column], spec: names.MetricSpec
    ) -> dict[tuple[str, str], int]:
        """Return a counter that is not the pools', by its label `pool` and its other one."""
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for column in columns:
            if column.kind == "counter":
                for where, at in self._index(column.keys).others.get(self._catalog.name(spec), ()):
                    counts[where] += _whole(column.values[at])
        return counts

    def _escape_places(self, columns: Iterable[Column]) -> tuple[EscapePlace, ...]:
        """Return where escaped buffers were acquired, the most frequent first."""
        found = [
            EscapePlace(pool=pool, place=place, escapes=count)
            for (pool, place), count in self._counts(columns, names.ESCAPED_AT).items()
        ]
        return tuple(sorted(found, key=lambda place: (-place.escapes, place.place, place.pool)))

    def _tasks(self, columns: Iterable[Column]) -> dict[str, TaskStats]:
        """Return the numbers of the tasks that were lent buffers, the busiest first."""
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for column in columns:
            if column.kind == OWN_KIND:
                for spec in names.TASK_COUNTERS:
                    places = self._index(column.keys).others.get(self._catalog.name(spec), ())
                    for (_, task), at in places:
                        counts = found[task]
                        counts[spec.field] = counts.get(spec.field, 0) + _whole(column.values[at])
            elif column.kind == PEAK_KIND:
                for key, number in zip(column.keys, column.values, strict=True):
                    named = task_of(key) if key.startswith(self._start) else None
                    if named is not None:
                        peak = max(_whole(number.value), found[named].get("peak_bytes", 0))
                        found[named]["peak_bytes"] = peak
        tasks = {task: TaskStats(**counts) for task, counts in found.items()}
        ordered = sorted(tasks, key=lambda task: (task == OTHER_TASKS, -tasks[task].gets, task))
        return {task: tasks[task] for task in ordered if tasks[task].gets}

    def _gauges(self, files: Sequence[LiveProcess]) -> _Gauges:
        # NaN: never said, or the process goes on in another file
        levels, locked, warmed = (
            [_whole(value) for value in values if not isnan(value)]
            for values in zip(
                *(
                    [live.gauge_row[place] for place in self._places_of_gauges(live.gauge_shape)]
                    for live in files
                ),
                strict=True,
            )
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
                _add_up(sums, compress(self._places_of_numbers(shape), row), compress(row, row))
        sizes = {place: PoolStats.of_counts(numbers) for place, numbers in sums.items()}
        gauges = self._gauges(files)
        return ProcessReport(
            pid=owner.pid,
            age_seconds=owner.age_seconds(),
            warmed=gauges.warmed,
            secure_level=LEVELS[min(gauges.levels)] if gauges.levels else None,
            locked_bytes=gauges.locked_bytes,
            pools=_by_pool({place: numbers for place, numbers in sizes.items() if numbers}),
        )


class _Gauges(NamedTuple):
    levels: list[int]
    locked_bytes: int
    warmed: bool | None


class _Places(NamedTuple):
    """Where the numbers of pools and sizes lie among others: by name, of each size.

    `slots` says of which each is, None for one of each in their order: several are of one where
    releases have other help texts.
    """

    names: tuple[str, ...]
    width: int
    pick: Callable[[Sequence[float]], Sequence[float]]
    slots: Sequence[int] | None

    @classmethod
    def of(cls, found: Iterable[tuple[int, _Place]], sizes: Sequence[tuple[str, str]]) -> _Places:
        """Make them of places and what lies there, as far as it is of these sizes."""
        of_size = {where: slot for slot, where in enumerate(sizes)}
        members: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for at, (where, name) in found:
            if where in of_size:
                members[name].append((of_size[where], at))
        slots: list[int] = []
        places: list[int] = []
        for number, several in enumerate(members.values()):
            for slot, at in sorted(several):
                slots.append(number * len(sizes) + slot)
                places.append(at)
        is_one_of_each = slots == list(range(len(members) * len(sizes)))
        # of one place it would return no tuple
        pick = itemgetter(*places) if len(places) > 1 else lambda row: [row[at] for at in places]
        return cls(tuple(members), len(sizes), pick, None if is_one_of_each else slots)

    def numbers(self, values: Sequence[float]) -> dict[str, list[int]]:
        """Return by name the number of each size."""
        found = _whole_numbers(self.pick(values))
        if self.slots is not None:
            several, found = found, [0] * (len(self.names) * self.width)
            for slot, number in zip(self.slots, several, strict=True):
                found[slot] += number
        starts = range(0, len(found), self.width) if found else ()
        return {
            name: found[start : start + self.width]
            for name, start in zip(self.names, starts, strict=True)
        }


@dataclass(frozen=True, slots=True)
class _Index:
    keys: Sequence[bytes]
    sizes: tuple[tuple[str, str], ...]
    counters: _Places
    others: dict[str, list[tuple[tuple[str, str], int]]]
    held: WeakKeyDictionary[Shape, _Places] = field(default_factory=WeakKeyDictionary)


_HELD = tuple(spec.field for spec in names.POOL_GAUGES)
_LARGEST = 2**53  # beyond it floats can't count
_OF_LIVING = ("gets", "puts", *_HELD)
_Place = tuple[tuple[str, str], str]  # pool and size, and the field of PoolStats
_Sums = dict[tuple[str, str], dict[str, int]]


def _add_up(sums: _Sums, places: Iterable[_Place | None], values: Iterable[float]) -> None:
    for place, value in zip(places, values, strict=True):
        if place:
            where, name = place
            sums[where][name] += _whole(value)


def _rows_of_living(
    lives: Mapping[Any, Sequence[LiveProcess]],
) -> Mapping[Shape, list[Any]]:
    rows: dict[Shape, list[Any]] = defaultdict(list)
    for files in lives.values():
        for live in files:
            rows[live.counter_shape].append(live.counter_row)
            rows[live.gauge_shape].append(live.gauge_row)
    return rows


def _whole_sum(column: Iterable[float]) -> int:
    return sum(map(_whole, column))


def _whole_numbers(values: Sequence[float]) -> list[int]:
    return list(map(int if _are_whole(values) else _whole, values))


def _are_whole(values: Sequence[float]) -> bool:
    # not a look at each: files that are not damaged have no other ones
    return not values or (min(values) >= 0 and sum(values) <= _LARGEST)


def _by_pool(sizes: Mapping[tuple[str, str], PoolStats]) -> dict[str, PoolStats]:
    pools: dict[str, dict[str, PoolStats]] = defaultdict(dict)
    for (pool, size), numbers in sizes.items():
        pools[pool][size] = numbers
    return {pool: PoolStats.of_sizes(pools[pool]) for pool in (*KINDS, *pools) if pool in pools}


def _whole(value: float) -> int:
    # a damaged file may say anything
    return int(value) if abs(value) <= _LARGEST else 0
