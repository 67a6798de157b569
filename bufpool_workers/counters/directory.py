"""The one way to a metrics directory and to the files in it.

A directory is opened once, and its files are reached by its descriptor, never through a link and
never waiting. What other users put at its path or in it meanwhile leads nowhere else. How far a
file is trusted depends on its kind:

| what | must be |
|---|---|
| any directory | no link, where every user may make entries (/tmp, /dev/shm) |
| one to count in | there also: ours, root's, or the property of that place's owner |
| a counter file, prometheus_client's too | a regular file, of any user: users may share a directory, and all that it can do is add numbers |
| a merged file | likewise; but the list of the files merged into it, which hides them and has them removed, holds only for files that its writer could have removed: in a sticky directory that is any if the writer is root or the directory's owner, else the writer's own. An honest list names no others |
| the compaction lock | in a sticky directory also: ours, root's or the directory owner's, and writable for its owner alone: whoever can replace it can have two compactions at once |
| a file that is written in (trim requests) | also: ours or the directory owner's, with no second name |
| a private directory, its manifest | see private_directory.py |
"""  # noqa: E501 - a table's rows

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from bufpool_workers.counters.format import DamagedFileError
from bufpool_workers.counters.names import SUFFIX, TEMPORARY

_NO_FILE: Final = frozenset(
    {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR}  # a link, a socket or device, a folder
)
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

Identity = tuple[int, int]


def identity(status: os.stat_result) -> Identity:
    """Return a key that identifies a file while it exists: (device, inode)."""
    return status.st_dev, status.st_ino


def is_writable_for_others(status: os.stat_result) -> bool:
    """Return whether users besides its owner may write in a file or directory."""
    return bool(status.st_mode & _OTHERS_MAY_WRITE)


def fault_of(path: str | os.PathLike[str], error: OSError | None = None) -> str:
    """Return what is wrong with a metrics directory, in the words of all views; "" for nothing."""
    if not Path(path).exists():
        return "it does not exist"
    if not Path(path).is_dir():
        return "it is not a directory"
    return "" if error is None else error.strerror or str(error)


@contextmanager
def open_file(
    path: str | os.PathLike[str], *, dir_fd: int | None = None, flags: int = os.O_RDONLY
) -> Iterator[int]:
    """Open a file that may be anything: never follow a link, never wait.

    Raises DamagedFileError for all but regular files.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise DamagedFileError("not a regular file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise DamagedFileError("not a regular file")
        yield fd
    finally:
        os.close(fd)


class Directory:
    """An open directory.

    `counting`: to make a file there in which this process counts. Raises OSError if it can't be
    opened, PermissionError if another user may have put it there.
    """

    def __init__(self, path: str | os.PathLike[str], *, counting: bool = False) -> None:
        path = Path(path).absolute()
        place = path.parent.stat()
        is_open_to_all = bool(place.st_mode & (stat.S_ISVTX | stat.S_IWOTH))
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self.fd = os.open(path, flags | (os.O_NOFOLLOW if is_open_to_all else 0))
        self.status = os.fstat(self.fd)
        owners = {0, os.geteuid(), place.st_uid}
        if counting and is_open_to_all and self.status.st_uid not in owners:
            os.close(self.fd)
            raise PermissionError(
                errno.EPERM,
                f"it is user {self.status.st_uid}'s, in a directory where every user may make one",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory, once."""
        os.close(self.fd)

    @property
    def is_sticky(self) -> bool:
        """Return whether its files are removed by their owners alone, by its own, and by root."""
        return bool(self.status.st_mode & stat.S_ISVTX)

    def may_remove(self, status: os.stat_result) -> bool:
        """Return whether this process may remove a file of its, if it may write here at all."""
        return not self.is_sticky or os.geteuid() in {0, self.status.st_uid, status.st_uid}

    def removable_by(self, writer: os.stat_result, names: Iterable[str]) -> frozenset[str]:
        """Return the files that the writer of another file here could have removed, or has."""
        if not self.is_sticky:
            return frozenset(names)
        if is_writable_for_others(writer):
            return frozenset()  # any of them may have written in it
        if writer.st_uid in {0, self.status.st_uid}:
            return frozenset(names)
        return frozenset(name for name in names if self._owner(name) in {None, writer.st_uid})

    def _owner(self, name: str) -> int | None:
        try:
            return self.stat(name).st_uid
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """List all that is in it."""
        return os.listdir(self.fd)  # noqa: PTH208 - a descriptor

    def metric_names(self) -> list[str]:
        """List the multiprocess files, sorted."""
        return sorted(name for name in self.names() if name.endswith(SUFFIX))

    def open(self, name: str) -> AbstractContextManager[int]:
        """Open a file of any user for reading, as `open_file` does."""
        return open_file(name, dir_fd=self.fd)

    @contextmanager
    def open_trusted(self, name: str) -> Iterator[int]:
        """Open the lock; raises DamagedFileError if another user may have made it."""
        with self.open(name) as fd:
            status, owners = os.fstat(fd), {0, os.geteuid(), self.status.st_uid}
            if self.is_sticky and (status.st_uid not in owners or is_writable_for_others(status)):
                raise DamagedFileError(
                    f"user {status.st_uid} may have put it into this sticky directory"
                )
            yield fd

    @contextmanager
    def open_own(self, name: str) -> Iterator[int]:
        """Open a file of our processes' to write in; raises DamagedFileError for another."""
        with open_file(name, dir_fd=self.fd, flags=os.O_RDWR) as fd:
            status, owners = os.fstat(fd), {os.geteuid(), self.status.st_uid}
            if status.st_uid not in owners or status.st_nlink > 1:
                raise DamagedFileError("not a file of our processes'")
            yield fd

    def stat(self, name: str) -> os.stat_result:
        """Return a file's status, a link's own."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def create(self, name: str) -> int:
        """Make a file that is not there, writable for its owner alone; return it open."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(name, flags, 0o644, dir_fd=self.fd)

    def rename(self, name: str, target: str) -> None:
        """Rename a file, in the place of the file that has the new name."""
        os.rename(name, target, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def unlink(self, name: str) -> None:
        """Remove a file, a link itself, if there is one of that name."""
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(name, dir_fd=self.fd)

    def replace(self, name: str, content: bytes, *, prefix: str) -> None:
        """Put a file in the place of another by one rename, after everything is on disk.

        It is written under a name that begins with `prefix`, which a crash may leave.
        """
        temporary = f"{prefix}{os.urandom(4).hex()}{TEMPORARY}"
        try:
            with open(self.create(temporary), "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self.rename(temporary, name)
        finally:
            self.unlink(temporary)
