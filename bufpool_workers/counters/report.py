"""The report on a node, for people and programs: every view of a node is drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, fields
from typing import Any, Self

from bufpool_workers._record import record_class
from bufpool_workers.counters.history import History
from bufpool_workers.counters.node_file import NodeInfo
from bufpool_workers.errors import REFUSALS
from bufpool_workers.pool_stats import LEVELS, TASK_FIELDS, PoolStats, TaskStats


@record_class(frozen=True, kw_only=True, slots=True)
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


@record_class(frozen=True, kw_only=True, slots=True)
class EscapePlace:
    """A place where escaped buffers were acquired, and how many; known with bufpool_debug."""

    pool: str
    """The kind of the pool."""
    place: str
    """The file and line."""
    escapes: int
    """Views that outlived buffers of that place."""


@record_class(frozen=True, kw_only=True, slots=True)
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
    def refused(self) -> int:
        """The sealed arguments that were altered, moved, sent twice, or plain."""
        return refused_in(self.unseal_failures)

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


def refused_in(failures: Mapping[str, int]) -> int:
    """Return how many of these failures, by their reason, are refusals."""
    return sum(number for reason, number in failures.items() if reason in REFUSALS)
