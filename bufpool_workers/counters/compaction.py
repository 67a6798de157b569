"""Compaction: the files of dead processes become one, and no scrape ever sees a different total.

Every state between two system calls is exact for a reader that knows which files the merged one
was made of (snapshot.py), so SIGKILL may come anywhere:

1. take the lock, so that one compacts at a time;
2. finish the last run: unlink its sources, then commit that there are none;
3. add up the files that no process writes to;
4. commit: one rename puts the sums, and the names that they are of, in the merged file's place;
5. unlink those, and commit that there are none any more.

Files of prometheus_client carry a pid in their name, which another process may get and open.
They are first renamed ("claimed") to a name that no process opens, then checked once more.
"""

import errno
import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from bufpool_workers.counters.columns import Part, Row, Shape, Shapes
from bufpool_workers.counters.directory import Directory
from bufpool_workers.counters.format import (
    LIVE_ONLY_KINDS,
    SUMMED,
    DamagedFileError,
    Number,
    OtherVersionError,
    merge_numbers,
)
from bufpool_workers.counters.liveness import current_host_id, has_writer
from bufpool_workers.counters.mergedfile import MergedFile
from bufpool_workers.counters.names import (
    LOCK,
    MERGE_PREFIX,
    FileName,
    is_leftover,
    merged_name,
)
from bufpool_workers.counters.tasks import fold_tasks

MAX_UNMERGED_FILES: Final = 100
"""Processes compact a directory that holds more files, even if it is seldom scraped."""
_MOST_ROWS: Final = 1000
_STICKY: Final = "another user's file in a sticky directory"
_UNSEEN: Final = (
    "prometheus_client's files can't be merged here: only their owner, and only on a filesystem "
    "with leases (fcntl(2)), can see whether a process still writes to them"
)


@dataclass(slots=True)
class Compaction:
    """The outcome of a run: files merged, files of live-only kinds dropped, and what is left.

    `unmerged` has the reasons by file name; a reason for many files stands under the empty name.
    """

    merged: int = 0
    dropped: int = 0
    unmerged: dict[str, str] = field(default_factory=dict)


def compact(directory: str | os.PathLike[str], *, foreign: bool = False) -> Compaction:
    """Merge the files of dead processes; does nothing while another process is at it.

    `foreign`: also third-party files, prometheus_client's own; their gauges of modes `all` and
    `live*` are dropped. Raises OSError when the directory can't be written.
    """
    run = Compaction()
    with Directory(directory) as opened, locked(opened) as is_locked:
        if is_locked:
            _remove_leftovers(opened)
            _Run(opened, run, foreign=foreign).compact()
    return run


def compact_above(files: int, directory: str | os.PathLike[str], *, foreign: bool = False) -> None:
    """Compact a directory that holds more than so many files.

    Raises OSError when the directory can't be written.
    """
    with Directory(directory) as opened:
        count = len(opened.metric_names())
    if count > files:
        compact(directory, foreign=foreign)


class _Sums:
    """The numbers of a kind that are merged: by columns, and now and then into few."""

    def __init__(self, kind: str, numbers: Mapping[bytes, Sequence[Number]]) -> None:
        self._kind = kind
        self._numbers = dict(numbers)
        self._rows: dict[Shape, list[Row]] = defaultdict(list)
        self._count = 0

    def add(self, part: Part) -> None:
        self._rows[part.shape].append(part.row)
        self._count += 1
        if self._count % _MOST_ROWS == 0:  # their memory would grow with the number of files
            self.folded()

    def folded(self) -> Mapping[bytes, Sequence[Number]]:
        """Merge all that was added, as `merge_numbers` does."""
        found: dict[bytes, list[Number]] = defaultdict(list)
        for shape, rows in self._rows.items():
            for key, column in zip(shape.keys, zip(*rows, strict=True), strict=True):
                found[key] += map(Number, column) if self._kind in SUMMED else column
        for key, numbers in found.items():
            self._numbers[key] = merge_numbers(self._kind, [*self._numbers.get(key, ()), *numbers])
        for key in fold_tasks(self._numbers):
            self._numbers[key] = merge_numbers(self._kind, self._numbers[key])
        self._rows.clear()
        return self._numbers


class _Run:
    def __init__(self, directory: Directory, result: Compaction, *, foreign: bool) -> None:
        self._directory = directory
        self._result = result
        self._foreign = foreign
        self._host_id = current_host_id()
        self._shapes = Shapes()

    def compact(self) -> None:
        sources: dict[str, list[FileName]] = defaultdict(list)
        for raw in self._directory.metric_names():
            try:
                name = FileName.parse(raw)
            except DamagedFileError:
                continue  # not ours; readers name it
            sources[name.kind] += [] if name.is_merged else [name]
        for kind, names in sources.items():
            try:
                self._compact_kind(kind, names)
            except (OtherVersionError, PermissionError) as error:
                self._result.unmerged[merged_name(kind)] = str(error)
            except DamagedFileError as error:
                self._result.unmerged[merged_name(kind)] = f"{error}; remove it to begin again at 0"

    def _compact_kind(self, kind: str, names: list[FileName]) -> None:
        merged = finish(self._directory, kind, read_merged(self._directory, kind))
        sums = _Sums(kind, merged.numbers)
        sources = []
        for name in names:
            if name.owner is None and not self._foreign:
                continue
            if kind in LIVE_ONLY_KINDS:
                self._drop(name)
            else:
                sources += self._merge(name, sums)
        if sources:
            merged = MergedFile.of(kind, sums.folded(), sources)
            merged.replace(self._directory, merged_name(kind))
            finish(self._directory, kind, merged)
            self._result.merged += len(sources)

    def _merge(self, name: FileName, sums: _Sums) -> list[str]:
        try:
            with self._directory.open(name.name) as fd:
                if not self._may_take(fd, name):
                    return []
                part = self._read(fd, name)  # damaged, it keeps its name
                taken = self._claim(fd, name)
                if taken is None:
                    return []
                if taken != name.name:
                    part = self._read(fd, name)
        except FileNotFoundError:
            return []
        except (PermissionError, DamagedFileError) as error:
            self._result.unmerged[name.name] = str(error)
            return []
        sums.add(part)
        return [taken]

    def _read(self, fd: int, name: FileName) -> Part:
        part, _ = self._shapes.read_file(fd, name)
        if part.problem:
            raise DamagedFileError(part.problem)
        return part

    def _drop(self, name: FileName) -> None:
        try:
            with self._directory.open(name.name) as fd:
                taken = self._claim(fd, name) if self._may_take(fd, name) else None
                if taken is not None:
                    self._directory.unlink(taken)
                    self._result.dropped += 1
        except FileNotFoundError:
            return
        except (PermissionError, DamagedFileError) as error:
            self._result.unmerged[name.name] = str(error)

    def _claim(self, fd: int, name: FileName) -> str | None:
        if name.owner is not None or name.is_claimed:
            return name.name
        claimed = name.claimed()
        self._directory.rename(name.name, claimed)
        # one that opened it just before the rename goes on in it, under its new name
        return claimed if self._has_writer(fd, name) is False else None

    def _has_writer(self, fd: int, name: FileName) -> bool | None:
        return has_writer(fd, owner=name.owner, host_id=self._host_id)

    def _may_take(self, fd: int, name: FileName) -> bool:
        writer = self._has_writer(fd, name)
        if writer is None:
            self._result.unmerged[""] = _UNSEEN
        if writer is not False:
            return False
        if not self._directory.may_remove(os.fstat(fd)):  # not even once it is merged
            raise PermissionError(errno.EPERM, _STICKY)
        return True


def finish(directory: Directory, kind: str, merged: MergedFile) -> MergedFile:
    """Remove the files that a merged one was made of, and commit that there are none any more."""
    if not merged.sources:
        return merged
    for name in merged.sources:
        directory.unlink(name)
    settled = merged._replace(sources=())
    settled.replace(directory, merged_name(kind))
    return settled


@contextmanager
def locked(directory: Directory) -> Iterator[bool]:
    """Hold the lock for the block, which gets False while another process holds it."""
    with ExitStack() as stack:
        try:
            with suppress(FileExistsError):
                os.close(directory.create(LOCK))
            fd = stack.enter_context(directory.open_trusted(LOCK))
        except DamagedFileError as error:
            raise PermissionError(errno.EPERM, f"{LOCK}: {error}; remove it") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            # Explicitly, not by closing: a child forked meanwhile shares it and would keep it.
            fcntl.flock(fd, fcntl.LOCK_UN)


def read_merged(directory: Directory, kind: str) -> MergedFile:
    """Read a merged file to replace it; raises DamagedFileError unless all of it makes sense."""
    try:
        with MergedFile.opened(directory, kind=kind) as merged:
            if merged.part.problem:  # it would be lost
                raise DamagedFileError(merged.part.problem)
            if not directory.may_remove(directory.stat(merged_name(kind))):
                raise PermissionError(errno.EPERM, _STICKY)
            return merged
    except FileNotFoundError:
        return MergedFile.of(kind, {}, ())


def _remove_leftovers(directory: Directory) -> None:
    for name in directory.names():
        if not is_leftover(name):
            continue
        is_merge = name.startswith(MERGE_PREFIX)
        with suppress(OSError, DamagedFileError), directory.open(name) as fd:  # not ours, it stays
            # Only the holder of the lock merges. A new counter file that is about to be renamed
            # is open for writing.
            abandoned = is_merge or has_writer(fd, owner=None, host_id="") is False
            if abandoned and directory.may_remove(os.fstat(fd)):
                directory.unlink(name)
