"""A file of entries that one process writes by plain stores, and readers map or read."""

import copy
import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Final, Self

from bufpool_workers.counters.directory import Directory, Identity, identity
from bufpool_workers.counters.format import pack_entry
from bufpool_workers.counters.layout import DOUBLE, LIVE_HEADER
from bufpool_workers.counters.names import TEMPORARY
from bufpool_workers.errors import MetricsError

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


class MappedFile:
    """Entries in private memory, which `publish` makes a file of; `CounterFile` draws its form.

    The lock on the file is held as long as `buffer` is mapped.
    """

    def __init__(self, path: Path, image: bytes) -> None:
        self.path = path
        self.buffer = mmap.mmap(-1, len(image))
        self.buffer[:] = image
        self._identity: Identity | None = None
        self._added: dict[bytes, int] = {}
        self._name = os.fspath(path)  # a Path would double what `is_there` costs

    def publish(self) -> Self:
        """Put the numbers, as they are now, into a file, the first or a replacement, and return it.

        It has the same name, so that a removed file may come back (from under a mount) and nothing
        counts twice. Whoever stores has to move on to the new one. Raises MetricsError that says
        what to do when the directory can't hold it.
        """
        try:
            buffer, found = _publish(self.buffer[:], path=self.path)
        except OSError as error:
            hint = _what_to_do(error, self.path.parent).format(
                size=len(self.buffer), uid=os.geteuid()
            )
            raise MetricsError(f"metrics directory {str(self.path.parent)!r}: {hint}") from error
        published = copy.copy(self)
        published._move(buffer, found)  # noqa: SLF001 - its own class
        return published

    def _move(self, buffer: mmap.mmap, found: Identity) -> None:
        """Become the file that was made of another one."""
        self.buffer, self._identity, self._added = buffer, found, dict(self._added)

    @property
    def is_there(self) -> bool:
        """True while its file is found by its name; costs one stat(2)."""
        try:
            return identity(os.stat(self._name)) == self._identity  # noqa: PTH116 - half the price
        except OSError:
            return False

    def find(self, key: bytes) -> int:
        """Return where the value of a key lies that was added; 0 for none."""
        return self._added.get(key, 0)

    def add(self, key: bytes) -> int:
        """Return where the value of a key lies, which is added if it is new; 0 for no room.

        Two threads may not call it at once.
        """
        if at := self.find(key):
            return at
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
        """Remove the file, and unmap it."""
        with Directory(self.path.parent) as directory:
            directory.unlink(self.path.name)
        self.close()

    def close(self) -> None:
        """Unmap the file, which frees its lock; the file stays for the next compaction.

        Raises BufferError while a pool is bound to it.
        """
        self.buffer.close()


def _what_to_do(error: OSError, directory: Path) -> str:
    known = _WHAT_TO_DO.get(error.errno or 0)
    # a directory that is there and takes no file, as /proc, has that error too
    if known is None or (error.errno == errno.ENOENT and directory.is_dir()):
        return f"it takes no file ({error.strerror}); set bufpool_metrics_dir to one that does"
    return known


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
