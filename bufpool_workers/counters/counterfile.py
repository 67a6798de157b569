"""The file in which one process counts."""

import errno
import fcntl
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from bufpool_workers.counters import catalog as names
from bufpool_workers.counters.directory import Directory, Identity, identity
from bufpool_workers.counters.format import pack_entry
from bufpool_workers.counters.layout import DOUBLE, LIVE_HEADER, TRIM_ASKED, Layout
from bufpool_workers.counters.liveness import ProcessIdentity
from bufpool_workers.counters.names import TEMPORARY, own_name
from bufpool_workers.errors import MetricsError

_layout: Final = lru_cache(maxsize=4)(Layout)  # made before a fork, it costs the children nothing
_PLACES_BYTES: Final = 32 * 1024
_PLACE_CHARACTERS: Final = 160
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

        0       int32 used, int32 live
        8       entries, as prometheus_client writes them: the counters
        used    room for more of them, with `places`
        live    8 bytes b"bufpool\x03"
        live+8  entries of the same form: the gauges of a living process, up to the end

    Other readers stop at `used`, and take `live` for padding. Every value is an aligned float64
    that its owner (of TRIM_ASKED: the worker's main process) stores at any time, without a call: a
    reader sees the old or the new one, and SIGKILL loses nothing. All keys are there, and all
    blocks allocated, before the file gets the name by which it is found, so no reader sees half of
    it and no store can fail. A counter that is added later is whole before `used` says that it is
    there. Where no file can be had, or it was removed, the same numbers are kept in memory until
    one can (`publish`).

    The lock on it is held as long as `buffer` is mapped. After a fork the child makes its own.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        path: Path,
        buffer: mmap.mmap,
        found: Identity | None = None,
        added: Mapping[bytes, int] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self.buffer = buffer
        self._layout = layout
        self._identity = found
        self._added = dict(added)
        self._name = os.fspath(path)  # a Path would double what `is_there` costs
        self._trim_at = layout.gauge_offsets[TRIM_ASKED]

    @classmethod
    def allocate(
        cls,
        directory: str | os.PathLike[str],
        *,
        catalog: names.Catalog,
        pools: Mapping[str, Sequence[str]],
        places: bool = False,
    ) -> Self:
        """Lay out the calling process's numbers in private memory, which `publish` makes a file.

        `pools` maps pools to size labels. `places` makes room for `count_escape`: for a hundred
        places or more.
        """
        sizes = tuple((pool, tuple(labels)) for pool, labels in pools.items())
        layout = _layout(catalog, pools=sizes, room=_PLACES_BYTES if places else 0)
        buffer = mmap.mmap(-1, len(layout.image))
        buffer[:] = layout.image
        return cls(layout, path=Path(directory, own_name(ProcessIdentity.current())), buffer=buffer)

    def publish(self) -> Self:
        """Put the numbers, as they are now, into a file, the first or a replacement, and return it.

        It has the same name, so that a removed file may come back (from under a mount) and nothing
        counts twice. The pools have to move on to the new one. Raises MetricsError that says
        what to do when the directory can't hold it.
        """
        try:
            buffer, found = _publish(self.buffer[:], path=self.path)
        except OSError as error:
            hint = _WHAT_TO_DO.get(error.errno or 0, error.strerror or "").format(
                size=len(self.buffer), uid=os.geteuid()
            )
            raise MetricsError(f"metrics directory {str(self.path.parent)!r}: {hint}") from error
        return type(self)(
            self._layout, path=self.path, buffer=buffer, found=found, added=self._added
        )

    @property
    def is_there(self) -> bool:
        """True while its file is found by its name; costs one stat(2)."""
        try:
            return identity(os.stat(self._name)) == self._identity  # noqa: PTH116 - half the price
        except OSError:
            return False

    def offsets(self, pool: str) -> list[int]:
        """Return where a pool's numbers lie: for each label, each of `pool_stats.FIELDS`."""
        return self._layout.pool_offsets[pool]

    def gauge_offset(self, gauge: names.MetricSpec) -> int:
        """Return where one of PROCESS_GAUGES lies."""
        return self._layout.gauge_offsets[gauge]

    def mark_stale(self) -> None:
        """Mark its gauges stale (NaN): its process has moved to a new file."""
        for gauge in names.PROCESS_GAUGES:
            self.set_gauge(gauge, math.nan)

    def trim_asked(self) -> float:
        """Return when the process was last asked to trim, in Unix seconds; 0 for never."""
        return float(DOUBLE.unpack_from(self.buffer, self._trim_at)[0])

    def set_gauge(self, gauge: names.MetricSpec, value: float) -> None:
        """Store one of PROCESS_GAUGES."""
        at = self.gauge_offset(gauge)
        self.buffer[at : at + DOUBLE.size] = DOUBLE.pack(value)

    def count_escape(self, *, pool: str, place: str) -> None:
        """Count an escape of a buffer that was acquired at `place`, while there is room for it.

        Two threads may not call it at once.
        """
        text = place.encode("utf-8", "backslashreplace").decode()  # a file's name may be anything
        key = self._layout.catalog.key(names.ESCAPED_AT, pool=pool, place=text[-_PLACE_CHARACTERS:])
        at = self._added.get(key) or self._add(key)
        if at:
            self._increment(at)

    def count_unseal(self, failure: str | None) -> None:
        """Count a sealed argument that was opened, or that was not for one of UNSEAL_FAILURES.

        Two threads may not call it at once.
        """
        catalog = self._layout.catalog
        key = (
            catalog.key(names.UNSEALED)
            if failure is None
            else catalog.key(names.UNSEAL_FAILED, reason=failure)
        )
        self._increment(self._layout.process_counters[key])

    def _increment(self, at: int) -> None:
        (value,) = DOUBLE.unpack_from(self.buffer, at)
        self.buffer[at : at + DOUBLE.size] = DOUBLE.pack(value + 1)

    def _add(self, key: bytes) -> int:
        entry = pack_entry(key)
        used: int
        live: int
        used, live = LIVE_HEADER.unpack_from(self.buffer)
        end = used + len(entry)
        if end > live:
            return 0
        self.buffer[used:end] = entry
        self.buffer[:4] = LIVE_HEADER.pack(end, live)[:4]  # by one store, after the entry
        self._added[key] = at = end - 2 * DOUBLE.size
        return at

    def remove(self) -> None:
        """Close it, and remove its file."""
        with Directory(self.path.parent) as directory:
            directory.unlink(self.path.name)
        self.close()

    def close(self) -> None:
        """Unmap it, which frees its lock; the file stays for the next compaction.

        Raises BufferError while a pool is bound to it.
        """
        self.buffer.close()


def _publish(image: bytes, *, path: Path) -> tuple[mmap.mmap, Identity]:
    temporary = f".{path.stem}{TEMPORARY}"
    with Directory(path.parent, counting=True) as directory:
        fd = directory.create(temporary)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            _reserve(fd, len(image))
            buffer = mmap.mmap(fd, len(image))  # holds a duplicate of fd, and with it the lock
            buffer[:] = image
            found = identity(os.fstat(fd))
            directory.rename(temporary, path.name)
        except BaseException:
            directory.unlink(temporary)
            raise
        finally:
            os.close(fd)
    return buffer, found


def _reserve(fd: int, size: int) -> None:
    # Without its block a page would be a SIGBUS at its first store.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:  # macOS
        os.write(fd, bytes(size))
