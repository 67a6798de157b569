"""The names, meanings and labels of all metrics; no other module knows them.

A number of the memory core is called by its field; this module says which metric it becomes.
Names follow https://prometheus.io/docs/practices/naming/ but for those that come from the Go
original, which a namespace of `shockwave_buffer_pool` gives exactly.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from bufpool_workers._docs import documented
from bufpool_workers.errors import UNSEAL_FAILURES
from bufpool_workers.pool_stats import TABLE, TASK_TABLE, Counter

DEFAULT_NAMESPACE: Final = "bufpool"
"""The first part of all metric names where no setting says another one."""


class MetricSpec(NamedTuple):
    """One metric: its name after the namespace, its help text, and the field of PoolStats."""

    suffix: str
    help: str
    field: str = ""


def _specs(kind: str, table: Iterable[Counter] = TABLE) -> tuple[MetricSpec, ...]:
    return tuple(MetricSpec(c.suffix, c.meaning, c.name) for c in table if c.kind == kind)


COUNTERS: Final = _specs("counter")
ESCAPED_AT: Final = MetricSpec(
    "escapes_at", "Views that outlived their buffer, by where it was acquired (bufpool_debug)"
)
UNSEALED: Final = MetricSpec("unsealed", "Sealed arguments that were opened")
UNSEAL_FAILED: Final = MetricSpec(
    "unseal_failures", "Sealed arguments that did not open, by the reason"
)
TASK_COUNTERS: Final = _specs("counter", TASK_TABLE)
(TASK_PEAK,) = _specs("max", TASK_TABLE)
_TOTALS: Final = frozenset({*COUNTERS, *TASK_COUNTERS, ESCAPED_AT, UNSEALED, UNSEAL_FAILED})
POOL_GAUGES: Final = _specs("gauge")
DERIVED: Final = _specs("derived")

SECURE_LEVEL: Final = MetricSpec(
    "secure_level",
    "Lowest level of memory protection of a living process: 0 none, 1 mlock, 2 memfd_secret",
)
"""The metric of the level that secure memory has reached."""
# the help texts are part of the keys: other ones would hide a process from those of another release
WARMED: Final = MetricSpec("warmed_processes", "Living processes that are warm, or need no warming")
"""The metric of processes that are warm."""
LOCKED_BYTES: Final = MetricSpec(
    "locked_bytes", "Bytes of secure memory that living processes have locked"
)
"""The metric of locked memory."""
PROCESS_GAUGES: Final = (SECURE_LEVEL, LOCKED_BYTES, WARMED)

PROCESSES: Final = MetricSpec("processes", "Living processes that count")
HIT_RATE: Final = MetricSpec("hit_rate", "Hits in 100 gets since the counters began")
GLOBAL_HIT_RATE: Final = MetricSpec("global_hit_rate", "Hits in 100 gets, over all pools and sizes")
MEMORY_ALLOCATED: Final = MetricSpec("memory_allocated_bytes", "Bytes mapped, over all pools")
MEMORY_REUSED: Final = MetricSpec("memory_reused_bytes", "Bytes served from the pools")
REUSE_EFFICIENCY: Final = MetricSpec("reuse_efficiency", "Bytes reused in 100 bytes served")
BUILD_INFO: Final = MetricSpec(
    "build_info", "Nodes by the versions of their software and their host; always 1"
)
SKIPPED_FILES: Final = MetricSpec(
    "skipped_files", "Metric files that could not be read, or not whole"
)


@documented
@dataclass(frozen=True, slots=True)
class Catalog:
    """The metrics under one namespace.

    Raises ValueError for a namespace that Prometheus does not allow at the start of a name.
    """

    namespace: str = DEFAULT_NAMESPACE
    """The first part of all their names."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", self.namespace):
            raise ValueError(
                f"metrics namespace {self.namespace!r}: letters, digits and underscores, "
                "not beginning with a digit",
            )

    def name(self, spec: MetricSpec) -> str:
        """Name the family; a counter's samples add `_total`."""
        return f"{self.namespace}_{spec.suffix}"

    def process_counters(self) -> Iterator[bytes]:
        """Yield the keys of what a process counts besides its pools."""
        yield self.key(UNSEALED)
        for reason in UNSEAL_FAILURES:
            yield self.key(UNSEAL_FAILED, reason=reason)

    def key(self, spec: MetricSpec, **labels: str) -> bytes:
        """Make the key of a number in a multiprocess file, as prometheus_client writes it."""
        before, after = _around_labels(self.name(spec), spec)
        return before + _labels(**labels) + after

    def keys(self, spec: MetricSpec, sizes: Iterable[tuple[str, str]]) -> tuple[bytes, ...]:
        """Make the key of a number of each pool and size."""
        return tuple(self.key(spec, pool=pool, size=size) for pool, size in sizes)


# a new file has some hundred keys, of few metrics and few labels
@lru_cache(maxsize=64)
def _around_labels(family: str, spec: MetricSpec) -> tuple[bytes, bytes]:
    sample = f"{family}_total" if spec in _TOTALS else family
    return f"[{json.dumps(family)}, {json.dumps(sample)}, ".encode(), (
        f", {json.dumps(spec.help)}]".encode()
    )


@lru_cache(maxsize=64)
def _labels(**labels: str) -> bytes:
    return json.dumps(labels, sort_keys=True).encode()
