"""The names, meanings and labels of all metrics; no other module knows them.

A number of the memory core is called by its field; this module says which metric it becomes.
Names follow https://prometheus.io/docs/practices/naming/ but for those that come from the Go
original, which a namespace of `shockwave_buffer_pool` gives exactly.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

DEFAULT_NAMESPACE: Final = "bufpool"


class Spec(NamedTuple):
    """One metric: the field it comes from, its name after the namespace, and its help text."""

    field: str
    suffix: str
    help: str


COUNTERS: Final = (
    Spec("gets", "gets", "Buffers asked for, hits and misses together"),
    Spec("puts", "puts", "Buffers given back"),
    Spec("hits", "hits", "Buffers served from the pool"),
    Spec("misses", "misses", "Buffers that memory had to be mapped for"),
    Spec("discards", "discards", "Buffers that were not kept when given back"),
    Spec("bytes_allocated", "bytes_allocated", "Bytes mapped for buffers, warm-up included"),
    Spec("bytes_reused", "bytes_reused", "Bytes served from the pool"),
    Spec("escapes", "escapes", "Views that outlived their buffer"),
    Spec("reclaims", "reclaims", "Buffers dropped, or still held when their task ended"),
    Spec("limit_hits", "limit", "Requests that met the cap of their pool"),
    Spec("unlocked", "unlocked", "Buffers lent below the level of protection of their pool"),
    Spec("damages", "damages", "Buffers found written past their end, whose memory was retired"),
)
ESCAPED_AT: Final = Spec(
    "", "escapes_at", "Views that outlived their buffer, by where it was acquired (bufpool_debug)"
)
POOL_GAUGES: Final = (
    Spec("idle", "buffers_idle", "Buffers that wait in the pools of living processes"),
    Spec("held_bytes", "held_bytes", "Bytes held by living processes, idle and in use"),
)
POOL_FIELDS: Final = tuple(spec.field for spec in COUNTERS + POOL_GAUGES)
"""The numbers that a pool keeps for each of its sizes, in the order in which it is given them."""

SECURE_LEVEL: Final = Spec(
    "secure_level",
    "secure_level",
    "Lowest level of memory protection of a living process: 0 none, 1 mlock, 2 memfd_secret",
)
WARMED: Final = Spec(
    "warmed", "warmed_processes", "Living processes that are warm, or that nobody is to warm"
)
LOCKED_BYTES: Final = Spec(
    "locked_bytes", "locked_bytes", "Bytes of secure memory that living processes have locked"
)
PROCESS_GAUGES: Final = (SECURE_LEVEL, LOCKED_BYTES, WARMED)

IN_USE: Final = Spec("", "buffers_in_use", "Buffers lent out by living processes")
PROCESSES: Final = Spec("", "processes", "Living processes that count")
HIT_RATE: Final = Spec("", "hit_rate", "Hits in 100 gets since the counters began")
GLOBAL_HIT_RATE: Final = Spec("", "global_hit_rate", "Hits in 100 gets, over all pools and sizes")
MEMORY_ALLOCATED: Final = Spec("", "memory_allocated_bytes", "Bytes mapped, over all pools")
MEMORY_REUSED: Final = Spec("", "memory_reused_bytes", "Bytes served from the pools")
REUSE_EFFICIENCY: Final = Spec("", "reuse_efficiency", "Bytes reused in 100 bytes served")
SKIPPED_FILES: Final = Spec("", "skipped_files", "Metric files that could not be read")


@dataclass(frozen=True, slots=True)
class Catalog:
    """The metrics under one namespace.

    Raises ValueError for a namespace that Prometheus does not allow at the start of a name.
    """

    namespace: str = DEFAULT_NAMESPACE

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", self.namespace):
            raise ValueError(
                f"metrics namespace {self.namespace!r}: letters, digits and underscores, "
                "not beginning with a digit",
            )

    def name(self, spec: Spec) -> str:
        """Name the family; a counter's samples add `_total`."""
        return f"{self.namespace}_{spec.suffix}"

    def counter_key(self, spec: Spec, *, pool: str, size: str) -> bytes:
        """Make the key of a counter in a multiprocess file, as prometheus_client writes it."""
        family = self.name(spec)
        return _key(family, f"{family}_total", {"pool": pool, "size": size}, spec.help)

    def place_key(self, pool: str, place: str) -> bytes:
        """Make the key of the counter of escapes of buffers that were acquired at one place."""
        family = self.name(ESCAPED_AT)
        labels = {"pool": pool, "place": place}
        return _key(family, f"{family}_total", labels, ESCAPED_AT.help)

    def pool_gauge_key(self, spec: Spec, *, pool: str, size: str) -> bytes:
        """Make the key of a living process's number for one size of one pool."""
        family = self.name(spec)
        return _key(family, family, {"pool": pool, "size": size}, spec.help)

    def process_gauge_key(self, spec: Spec) -> bytes:
        """Make the key of a living process's number that belongs to no pool."""
        family = self.name(spec)
        return _key(family, family, {}, spec.help)


def label_bytes(label: str) -> int | None:
    """Give the bytes that a size label stands for; None for what is no class, such as "larger"."""
    match = re.fullmatch(r"(\d{1,18})([kmg]?)b", label, re.ASCII)
    return int(match[1]) << 10 * " kmg".index(match[2] or " ") if match else None


def _key(family: str, sample: str, labels: dict[str, str], text: str) -> bytes:
    return json.dumps([family, sample, labels, text], sort_keys=True).encode()
