"""The report on a node, for people and programs: every view of a node is drawn from it."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import isnan, nan
from typing import Any, Self

from bufpool_workers.counters import catalog as names
from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.format import merge_numbers, parse_key
from bufpool_workers.counters.history import History, read_history
from bufpool_workers.counters.liveness import ProcessIdentity
from bufpool_workers.counters.node_file import NodeInfo, read_nodes
from bufpool_workers.counters.snapshot import LiveProcess, Snapshot, read_directory
from bufpool_workers.pool_stats import KINDS, LEVELS, PoolStats


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """A living process; `pools` has only the sizes that it has used or holds.

    `warmed` is None for a process that needs no warming: a script, a web server.
    `secure_level` is the lowest of its secure memory, or what it would get while it has none.
    """

    pid: int
    age_seconds: float
    warmed: bool | None
    secure_level: str | None
    locked_bytes: int
    pools: Mapping[str, PoolStats]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EscapePlace:
    """A place where escaped buffers were acquired, and how many; known with bufpool_debug."""

    pool: str
    place: str
    escapes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A node at one moment: its pools over all processes, and each process that lives.

    `unix_seconds` is that moment. `secure_level` is the lowest of a living process, None while
    there is none. `skipped` has the reason for each metric file that could not be read. `nodes` are
    those that say who they are: scripts and web servers count without. `unseal_failures` counts
    sealed arguments that did not open, by the reason, beside those that did, `unsealed`.
    `history` is None where nobody serves, and so nobody samples.
    """

    unix_seconds: float
    pools: Mapping[str, PoolStats]
    processes: tuple[ProcessReport, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    escape_places: tuple[EscapePlace, ...] = ()
    nodes: tuple[NodeInfo, ...] = ()
    unsealed: int = 0
    unseal_failures: Mapping[str, int] = field(default_factory=dict)
    history: History | None = None

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
    reader = _Reader(catalog)
    files: dict[ProcessIdentity, list[LiveProcess]] = defaultdict(list)
    for live in snapshot.live:
        if reader.is_ours(live):
            files[live.owner].append(live)
    processes = tuple(reader.process(owner, lives) for owner, lives in files.items())
    return Report(
        unix_seconds=time.time(),
        pools=reader.pools(snapshot, processes),
        processes=processes,
        skipped=dict(snapshot.unreadable),
        escape_places=reader.places(snapshot),
        nodes=nodes,
        unsealed=sum(reader.counts(snapshot, names.UNSEALED).values()),
        unseal_failures={
            reason: number
            for (_, reason), number in reader.counts(snapshot, names.UNSEAL_FAILED).items()
            if number
        },
    )


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


class _Reader:
    """Reader of the numbers of one catalog from a directory's files."""

    def __init__(self, catalog: Catalog) -> None:
        specs = names.COUNTERS + names.POOL_GAUGES
        self._fields = {catalog.name(spec): spec.field for spec in specs}
        self._catalog = catalog
        self._keys = [catalog.key(spec) for spec in names.PROCESS_GAUGES]

    def is_ours(self, live: LiveProcess) -> bool:
        """Return whether it counts in this namespace; several may share a directory."""
        return all(key in live.gauges for key in self._keys)

    def pools(self, snapshot: Snapshot, processes: Sequence[ProcessReport]) -> dict[str, PoolStats]:
        """Return what all processes counted, and what the living ones hold."""
        living: dict[tuple[str, str], PoolStats] = defaultdict(PoolStats)
        for process in processes:
            for pool, stats in process.pools.items():
                for size, numbers in stats.sizes.items():
                    living[pool, size] += numbers
        counted = self._add_up(
            (key, merge_numbers(kind, numbers)[0].value)
            for (kind, _, key), numbers in snapshot.numbers.items()
            if kind == "counter" and parse_key(key).family in self._fields
        )
        return _by_pool(
            {place: numbers.with_gauges_of(living[place]) for place, numbers in counted.items()}
        )

    def places(self, snapshot: Snapshot) -> tuple[EscapePlace, ...]:
        """Return where escaped buffers were acquired, the most frequent first."""
        found = [
            EscapePlace(pool=pool, place=place, escapes=count)
            for (pool, place), count in self.counts(snapshot, names.ESCAPED_AT).items()
        ]
        return tuple(sorted(found, key=lambda place: (-place.escapes, place.place, place.pool)))

    def counts(self, snapshot: Snapshot, spec: names.MetricSpec) -> dict[tuple[str, str], int]:
        """Return a counter that is not the pools', by its label `pool` and its other one."""
        wanted = self._catalog.name(spec)
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for (kind, _, key), numbers in snapshot.numbers.items():
            family, _, labels, _ = parse_key(key)
            if kind == "counter" and family == wanted:
                named = dict(labels)
                pool = named.pop("pool", "")
                counts[pool, "".join(named.values())] += _whole(
                    merge_numbers(kind, numbers)[0].value
                )
        return counts

    def process(self, owner: ProcessIdentity, files: Sequence[LiveProcess]) -> ProcessReport:
        """Describe a living process by all the files that it has counted in."""
        numbers = (each.items() for live in files for each in (live.counters, live.gauges))
        sizes = self._add_up(pair for pairs in numbers for pair in pairs if pair[1])
        # NaN: never said, or the process goes on in another file
        levels, locked, warmed = (
            [_whole(live.gauges[key]) for live in files if not isnan(live.gauges.get(key, nan))]
            for key in self._keys
        )
        return ProcessReport(
            pid=owner.pid,
            age_seconds=owner.age_seconds(),
            warmed=any(warmed) if warmed else None,
            secure_level=LEVELS[max(0, min(*levels, len(LEVELS) - 1))] if levels else None,
            locked_bytes=sum(locked),
            pools=_by_pool({place: numbers for place, numbers in sizes.items() if numbers}),
        )

    def _add_up(self, pairs: Iterable[tuple[bytes, float]]) -> dict[tuple[str, str], PoolStats]:
        sums: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(int))
        for key, value in pairs:
            family, _, labels, _ = parse_key(key)
            if family in self._fields:
                named = dict(labels)
                where = named.get("pool", ""), named.get("size", "")
                sums[where][self._fields[family]] += _whole(value)
        return {where: PoolStats.of_counts(counts) for where, counts in sums.items()}


def _by_pool(sizes: Mapping[tuple[str, str], PoolStats]) -> dict[str, PoolStats]:
    pools: dict[str, dict[str, PoolStats]] = defaultdict(dict)
    for (pool, size), numbers in sizes.items():
        pools[pool][size] = numbers
    return {pool: PoolStats.of_sizes(pools[pool]) for pool in (*KINDS, *pools) if pool in pools}


def _whole(value: float) -> int:
    # a damaged file may say anything; beyond 2^53 floats can't count
    return int(value) if abs(value) <= 2**53 else 0
