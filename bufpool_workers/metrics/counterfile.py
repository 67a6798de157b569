"""The file in which one process counts."""

import errno
import fcntl
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics import catalog as names
from bufpool_workers.metrics.entries import (
    HEADER,
    ZERO,
    DamagedFileError,
    Number,
    pack_entry,
    unpack_entries,
)
from bufpool_workers.metrics.files import TEMPORARY, own_name
from bufpool_workers.metrics.owners import Owner

PoolSizes = tuple[tuple[str, tuple[str, ...]], ...]

_LIVE: Final = b"bufpool\x01"
_DOUBLE: Final = struct.Struct("=d")

_WHAT_TO_DO: Final = {
    errno.ENOENT: "it does not exist; create it, or set bufpool_metrics_dir to one that does",
    errno.ENOTDIR: "it is not a directory; set bufpool_metrics_dir to one",
    errno.ENOSPC: "it is full; {size} bytes are needed for each process: make room, or set "
    "bufpool_metrics_dir to a larger filesystem",
    errno.EDQUOT: "its quota is used up; {size} bytes are needed for each process",
    errno.EFBIG: "{size} bytes are above the largest file allowed (ulimit -f)",
    errno.EROFS: "it is read-only; set bufpool_metrics_dir to one that can be written",
    errno.EACCES: "it may not be written by user {uid}; change its owner or mode, or set "
    "bufpool_metrics_dir to another",
}


class CounterFile:
    r"""A process's counters in a mapped file that any Prometheus multiprocess collector reads.

    ::

        0       int32 used, 4 bytes of padding
        8       entries, as prometheus_client writes them: the counters
        used    8 bytes b"bufpool\x01"
        used+8  entries of the same form: the gauges of a living process, up to the end

    Other readers stop at `used`. Every value is an aligned float64 that its owner (of TRIM_ASKED:
    the worker's main process) stores at any time, without a call: a reader sees the old or the
    new one, and SIGKILL loses nothing. All keys are there, and all blocks allocated, before the
    file gets the name by which it is found, so nobody sees half of it and no store can fail.

    The lock on it is held as long as `buffer` is mapped. After a fork the child makes its own.
    """

    def __init__(self, layout: "Layout", *, path: Path, buffer: mmap.mmap) -> None:
        self.path = path
        self.buffer = buffer
        self._layout = layout

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        *,
        catalog: names.Catalog,
        pools: Mapping[str, Sequence[str]],
    ) -> Self:
        """Make the calling process's file for pools and their size labels.

        Raises MetricsError that says what to do when the directory can't hold it.
        """
        layout = _layout(catalog, tuple((pool, tuple(sizes)) for pool, sizes in pools.items()))
        path = Path(directory, own_name(Owner.current()))
        try:
            buffer = _place(layout.image, path=path)
        except OSError as error:
            hint = _WHAT_TO_DO.get(error.errno or 0, error.strerror or "").format(
                size=len(layout.image), uid=os.geteuid()
            )
            raise MetricsError(f"metrics directory {str(directory)!r}: {hint}") from error
        return cls(layout, path=path, buffer=buffer)

    def offsets(self, pool: str) -> list[int]:
        """Where a pool's numbers lie: for each of its labels, each of POOL_FIELDS."""
        return self._layout.pool_offsets[pool]

    def gauge_offset(self, gauge: names.Spec) -> int:
        """Where one of PROCESS_GAUGES lies."""
        return self._layout.gauge_offsets[gauge]

    def retire(self) -> None:
        """Have its gauges say nothing from now on: its process goes on in another file."""
        for gauge in names.PROCESS_GAUGES:
            self.set_gauge(gauge, math.nan)

    def trim_asked(self) -> float:
        """When the process was last asked to trim its pools, in Unix seconds; 0 for never."""
        return float(_DOUBLE.unpack_from(self.buffer, self.gauge_offset(names.TRIM_ASKED))[0])

    def set_gauge(self, gauge: names.Spec, value: float) -> None:
        """Store one of PROCESS_GAUGES."""
        at = self.gauge_offset(gauge)
        self.buffer[at : at + _DOUBLE.size] = _DOUBLE.pack(value)

    def close(self) -> None:
        """Unmap it, which frees its lock; the file stays for the next compaction.

        Raises BufferError while a pool is bound to it.
        """
        self.buffer.close()


def gauge_place(data: bytes, key: bytes, *, used: int) -> int:
    """Find where a gauge's value lies; raises DamagedFileError when it is not there."""
    packed = pack_entry(key)[: -2 * _DOUBLE.size]
    at = data.find(packed, used)
    if at < 0:
        raise DamagedFileError(f"the gauge {key[:80]!r} is missing")
    return at + len(packed)


def read_gauges(data: bytes, *, used: int) -> Iterator[tuple[bytes, Number]]:
    """Read the gauges of a file of ours; raises DamagedFileError when there are none."""
    if data[used : used + len(_LIVE)] != _LIVE:
        raise DamagedFileError("the gauges of its process are missing")
    return unpack_entries(data, start=used + len(_LIVE), end=len(data))


class Layout:
    """A new file's content, and where each number lies in it."""

    def __init__(self, catalog: names.Catalog, *, pools: PoolSizes) -> None:
        sizes = [(pool, label) for pool, labels in pools for label in labels]
        image = bytearray(HEADER.size)

        def add(key: bytes, number: Number = ZERO) -> int:
            image.extend(pack_entry(key, number))
            return len(image) - 2 * _DOUBLE.size

        counters = {
            (pool, label): [
                add(catalog.counter_key(spec, pool=pool, size=label)) for spec in names.COUNTERS
            ]
            for pool, label in sizes
        }
        HEADER.pack_into(image, 0, len(image))
        image += _LIVE
        # a level is not known before its process has said it, and zero is the worst
        first = {names.SECURE_LEVEL: Number(math.nan, 0.0)}
        self.gauge_offsets = {
            spec: add(catalog.process_gauge_key(spec), first.get(spec, ZERO))
            for spec in (*names.PROCESS_GAUGES, names.TRIM_ASKED)
        }
        self.pool_offsets: dict[str, list[int]] = {pool: [] for pool, _ in pools}
        for pool, label in sizes:
            gauges = [
                add(catalog.pool_gauge_key(spec, pool=pool, size=label))
                for spec in names.POOL_GAUGES
            ]
            self.pool_offsets[pool] += counters[pool, label] + gauges
        self.image = bytes(image)


@lru_cache(maxsize=4)  # drawn before a fork, it costs the children nothing
def _layout(catalog: names.Catalog, pools: PoolSizes) -> Layout:
    return Layout(catalog, pools=pools)


def _place(image: bytes, *, path: Path) -> mmap.mmap:
    temporary = path.with_name(f".{path.stem}{TEMPORARY}")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _allocate(fd, len(image))
        buffer = mmap.mmap(fd, len(image))  # holds a duplicate of fd, and with it the lock
        buffer[:] = image
        temporary.rename(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    finally:
        os.close(fd)
    return buffer


def _allocate(fd: int, size: int) -> None:
    # A page that can't be had when it is first stored to would be a SIGBUS.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:  # macOS
        os.write(fd, bytes(size))
