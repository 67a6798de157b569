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
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bufpool_workers.counters.format import LIVE_ONLY_KINDS, DamagedFileError, Number, merge_numbers
from bufpool_workers.counters.liveness import current_host_id, has_writer
from bufpool_workers.counters.mergedfile import MergedFile
from bufpool_workers.counters.names import (
    LOCK,
    MERGE_PREFIX,
    TEMPORARY,
    FileName,
    list_names,
    merged_name,
    open_file,
    read_used,
)
from bufpool_workers.counters.snapshot import read_entries

MAX_UNMERGED_FILES: Final = 100
"""Where a directory is seldom scraped, processes compact it when it holds more files."""
_NEW_PREFIX: Final = ".counter_bufpool-"
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
    run, directory = Compaction(), Path(directory)
    with _locked(directory) as locked:
        if locked:
            _remove_leftovers(directory)
            _Run(directory, run, foreign=foreign).compact()
    return run


def compact_above(files: int, directory: str | os.PathLike[str], *, foreign: bool = False) -> None:
    """Compact a directory that holds more than so many files.

    Raises OSError when the directory can't be written.
    """
    if len(list_names(Path(directory))) > files:
        compact(directory, foreign=foreign)


class _Run:
    def __init__(self, directory: Path, result: Compaction, *, foreign: bool) -> None:
        self._directory = directory
        self._result = result
        self._foreign = foreign
        self._host_id = current_host_id()

    def compact(self) -> None:
        sources: dict[str, list[FileName]] = defaultdict(list)
        for raw in list_names(self._directory):
            try:
                name = FileName.parse(raw)
            except DamagedFileError:
                continue  # not ours; readers name it
            sources[name.kind] += [] if name.is_merged else [name]
        for kind, names in sources.items():
            try:
                self._compact_kind(kind, names)
            except DamagedFileError as error:
                self._result.unmerged[merged_name(kind)] = f"{error}; remove it to begin again at 0"

    def _compact_kind(self, kind: str, names: list[FileName]) -> None:
        path = self._directory / merged_name(kind)
        merged = self._finish(path, _read_merged(path, kind))
        numbers = defaultdict(list, {key: [*parts] for key, parts in merged.numbers.items()})
        sources = []
        for name in names:
            if name.owner is None and not self._foreign:
                continue
            if kind in LIVE_ONLY_KINDS:
                self._drop(name)
            else:
                sources += self._merge(name, numbers)
        if sources:
            sums = {key: merge_numbers(kind, parts) for key, parts in numbers.items()}
            merged = MergedFile(sums, sources)
            merged.replace(path)
            self._finish(path, merged)
            self._result.merged += len(sources)

    def _finish(self, path: Path, merged: MergedFile) -> MergedFile:
        if not merged.sources:
            return merged
        for name in merged.sources:
            (self._directory / name).unlink(missing_ok=True)
        settled = MergedFile(merged.numbers)
        settled.replace(path)
        return settled

    def _merge(self, name: FileName, numbers: dict[bytes, list[Number]]) -> list[str]:
        try:
            with open_file(self._directory / name.name) as fd:
                if not self._may_take(fd, name):
                    return []
                entries = _read(fd, name)  # damaged, it keeps its name
                path = self._claim(fd, name)
                if path is None:
                    return []
                if path.name != name.name:
                    entries = _read(fd, name)
        except FileNotFoundError:
            return []
        except (PermissionError, DamagedFileError) as error:
            self._result.unmerged[name.name] = str(error)
            return []
        for key, parts in entries.items():
            numbers[key] += parts
        return [path.name]

    def _drop(self, name: FileName) -> None:
        try:
            with open_file(self._directory / name.name) as fd:
                path = self._claim(fd, name) if self._may_take(fd, name) else None
                if path is not None:
                    path.unlink()
                    self._result.dropped += 1
        except FileNotFoundError:
            return
        except (PermissionError, DamagedFileError) as error:
            self._result.unmerged[name.name] = str(error)

    def _claim(self, fd: int, name: FileName) -> Path | None:
        path = self._directory / name.name
        if name.owner is not None or name.is_claimed:
            return path
        path = path.rename(self._directory / name.claimed())
        # one that opened it just before the rename goes on in it, under its new name
        return path if self._has_writer(fd, name) is False else None

    def _has_writer(self, fd: int, name: FileName) -> bool | None:
        return has_writer(fd, owner=name.owner, host_id=self._host_id)

    def _may_take(self, fd: int, name: FileName) -> bool:
        writer = self._has_writer(fd, name)
        if writer is None:
            self._result.unmerged[""] = _UNSEEN
        if writer is not False:
            return False
        folder, user = self._directory.stat(), os.geteuid()
        if folder.st_mode & stat.S_ISVTX and user not in {
            0,
            folder.st_uid,
            os.fstat(fd).st_uid,
        }:  # once merged, it could not be unlinked
            raise PermissionError(errno.EPERM, "another user's file in a sticky directory")
        return True


@contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    # never through a link that another user put there, and never waiting at a pipe
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(directory / LOCK, flags, 0o644)
    try:
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
    finally:
        os.close(fd)


def _read(fd: int, name: FileName) -> dict[bytes, Sequence[Number]]:
    data, used = read_used(fd, whole=False)
    return read_entries(data, used=used, name=name)


def _read_merged(path: Path, kind: str) -> MergedFile:
    try:
        with open_file(path) as fd:
            return MergedFile.read(fd, kind=kind)
    except FileNotFoundError:
        return MergedFile({})


def _remove_leftovers(directory: Path) -> None:
    for path in directory.glob(f".*{TEMPORARY}"):
        if path.is_dir():
            continue  # not ours
        if path.name.startswith(MERGE_PREFIX):  # only the holder of the lock makes them
            path.unlink(missing_ok=True)
        elif path.name.startswith(_NEW_PREFIX):
            try:
                with open_file(path) as fd:
                    # The one about to rename it has it open for writing.
                    abandoned = has_writer(fd, owner=None, host_id="") is False
            except (OSError, DamagedFileError):
                continue
            if abandoned:
                path.unlink(missing_ok=True)
