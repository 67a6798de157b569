"""The layout of a counter file: which keys it has, and where their values lie."""

import math
import struct
from typing import Final

from bufpool_workers.counters import catalog as names
from bufpool_workers.counters.format import (
    ZERO,
    DamagedFileError,
    Number,
    check_version,
    pack_entry,
)

PoolSizes = tuple[tuple[str, tuple[str, ...]], ...]

TRIM_ASKED: Final = names.MetricSpec(
    "trim_asked_seconds", "When a process was last asked to trim its pools"
)
"""Never scraped: the worker's main process writes it into the files of its children."""

_LIVE: Final = b"bufpool\x03"
LIVE_HEADER: Final = struct.Struct("=ii")
DOUBLE: Final = struct.Struct("=d")


def empty_image(room: int) -> bytes:
    """Return the content of a new file of ours that has room, and nothing yet."""
    start = LIVE_HEADER.size
    return LIVE_HEADER.pack(start, start + room) + bytes(room) + _LIVE


class Layout:
    """A new file's content, and where each number lies in it."""

    def __init__(self, catalog: names.Catalog, *, pools: PoolSizes, room: int) -> None:
        sizes = [(pool, label) for pool, labels in pools for label in labels]
        image = bytearray(LIVE_HEADER.size)

        def add(key: bytes, number: Number = ZERO) -> int:
            image.extend(pack_entry(key, number))
            return len(image) - 2 * DOUBLE.size

        counters = {
            (pool, label): [
                add(catalog.key(spec, pool=pool, size=label)) for spec in names.COUNTERS
            ]
            for pool, label in sizes
        }
        self.process_counters = {key: add(key) for key in catalog.process_counters()}
        LIVE_HEADER.pack_into(image, 0, len(image), len(image) + room)
        image += bytes(room) + _LIVE
        # NaN until its process sets it: a level of zero would be the worst, and a process that
        # needs no warming (a script, a web server) is not one that should be warm
        unsaid = Number(math.nan)
        first = {names.SECURE_LEVEL: unsaid, names.WARMED: unsaid}
        self.gauge_offsets = {
            spec: add(catalog.key(spec), first.get(spec, ZERO))
            for spec in (*names.PROCESS_GAUGES, TRIM_ASKED)
        }
        self.pool_offsets: dict[str, list[int]] = {pool: [] for pool, _ in pools}
        for pool, label in sizes:
            gauges = [add(catalog.key(spec, pool=pool, size=label)) for spec in names.POOL_GAUGES]
            self.pool_offsets[pool] += counters[pool, label] + gauges
        self.image = bytes(image)
        self.catalog = catalog


def gauge_place(data: bytes, key: bytes, *, used: int) -> int:
    """Return where a gauge's value lies; raises DamagedFileError when it is not there."""
    packed = pack_entry(key)[: -2 * DOUBLE.size]
    at = data.find(packed, used)
    if at < 0:
        raise DamagedFileError(f"the gauge {key[:80]!r} is missing")
    return at + len(packed)


def gauges_start(data: bytes) -> int:
    """Return where the gauges of a file of ours begin; raises DamagedFileError if none do."""
    live = LIVE_HEADER.unpack_from(data)[1] if len(data) >= LIVE_HEADER.size else 0
    start: int = live + len(_LIVE)
    if live < LIVE_HEADER.size or data[live:start] != _LIVE:
        raise DamagedFileError("the gauges of its process are missing")
    return start


def check_live_version(data: bytes) -> None:
    """Raise OtherVersionError for a file of ours that another version of the format rules."""
    live = LIVE_HEADER.unpack_from(data)[1] if len(data) >= LIVE_HEADER.size else 0
    check_version(data[live : live + len(_LIVE)] if live >= LIVE_HEADER.size else b"", _LIVE)
