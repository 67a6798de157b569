"""All numbers of a directory at one moment, read without a lock."""

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bufpool_workers.counters.directory import Directory, identity, open_file
from bufpool_workers.counters.format import (
    HEADER,
    PER_PROCESS,
    DamagedFileError,
    Number,
    check_key,
    merge_numbers,
    read_used,
    unpack_entries,
)
from bufpool_workers.counters.layout import read_gauges
from bufpool_workers.counters.liveness import ProcessIdentity, current_host_id, has_writer
from bufpool_workers.counters.mergedfile import MergedFile
from bufpool_workers.counters.names import FileName, merged_name
from bufpool_workers.errors import MetricsError

_ATTEMPTS: Final = 200

Series = tuple[str, str, bytes]
"""A time series: kind, process (empty unless each process keeps its own), key."""


@dataclass(frozen=True, slots=True)
class LiveProcess:
    """A process that counts now, with its own counters and gauges by key."""

    owner: ProcessIdentity
    counters: Mapping[bytes, float]
    gauges: Mapping[bytes, float]


@dataclass(slots=True)
class Snapshot:
    """The numbers of all files of a directory; `unreadable` has the reason for each unread file."""

    numbers: dict[Series, list[Number]] = field(default_factory=lambda: defaultdict(list))
    live: list[LiveProcess] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def merged(self) -> list[tuple[str, str, bytes, Number]]:
        """Merge each series into one number."""
        return [
            (kind, process, key, merge_numbers(kind, numbers)[0])
            for (kind, process, key), numbers in self.numbers.items()
        ]

    def add(self, name: FileName, entries: Mapping[bytes, Sequence[Number]]) -> None:
        """Add the numbers of a file."""
        process = name.process if name.kind in PER_PROCESS else ""
        for key, numbers in entries.items():
            self.numbers[name.kind, process, key] += numbers


def read_directory(directory: str | os.PathLike[str]) -> Snapshot:
    """Read every file that counts, each exactly once, however many die and are compacted meanwhile.

    Takes no lock: it starts over when a compaction has come between. Raises MetricsError when
    the directory can't be listed.
    """
    shown = repr(os.fspath(directory))
    for _ in range(_ATTEMPTS):
        try:
            with Directory(directory) as opened:
                snapshot = _read_once(opened)
        except OSError as error:
            raise MetricsError(
                f"metrics directory {shown}: {error.strerror}; it must exist and be "
                "readable by the process that scrapes"
            ) from error
        if snapshot:
            return snapshot
    raise MetricsError(
        f"metrics directory {shown}: compacted during each of {_ATTEMPTS} reads; "
        "is another program writing there"
    )


def read_files(paths: Sequence[Path]) -> Snapshot:
    """Read the files given, also those that are merged into another one of them."""
    snapshot, host_id = Snapshot(), current_host_id()
    for path in paths:
        _read_into(snapshot, path.name, open_file(path), host_id=host_id)
    return snapshot


def _read_once(directory: Directory) -> Snapshot | None:
    snapshot, host_id = Snapshot(), current_host_id()
    before = _parse_names(directory.metric_names(), snapshot)
    with ExitStack() as stack:  # keeps the merged files open, so that no other has their inode
        merged: dict[str, MergedFile] = {}
        for name in before:
            if name.is_merged:
                try:
                    file = stack.enter_context(MergedFile.opened(directory, kind=name.kind))
                    merged[name.kind] = file
                    snapshot.add(name, file.numbers)
                except FileNotFoundError:
                    return None
                except (OSError, DamagedFileError) as error:
                    snapshot.unreadable[name.name] = _reason(error)
        for name in before:
            is_counted = name.kind in merged and name.name in merged[name.kind].sources
            if not (name.is_merged or is_counted):
                _read_into(snapshot, name.name, directory.open(name.name), host_id=host_id)
        # A listing is not atomic: a claim's rename may hide both of its names from one, but the
        # new one is there in the next, unless a commit has followed, which the inode shows.
        after = _parse_names(directory.metric_names(), snapshot)
        if {name for name in after if name.is_claimed} - set(before):
            return None
        if not all(
            _merged_unchanged(directory, kind, merged.get(kind))
            for kind in {name.kind for name in (*before, *after)}
            if merged_name(kind) not in snapshot.unreadable
        ):
            return None
    return snapshot


def _merged_unchanged(directory: Directory, kind: str, merged: MergedFile | None) -> bool:
    try:
        now = identity(directory.stat(merged_name(kind)))
    except FileNotFoundError:
        now = None
    return now == (merged.identity if merged else None)


def _parse_names(names: list[str], snapshot: Snapshot) -> list[FileName]:
    parsed = []
    for name in names:
        try:
            parsed.append(FileName.parse(name))
        except DamagedFileError as error:
            snapshot.unreadable[name] = str(error)
    return parsed


def _read_into(
    snapshot: Snapshot, raw: str, opened: AbstractContextManager[int], *, host_id: str
) -> None:
    try:
        name = FileName.parse(raw)
        with opened as fd:
            data, used = read_used(fd, whole=name.owner is not None)
            entries = read_entries(data, used=used, name=name)
            live = _read_live(name.owner, data, entries)
            if live and (
                not has_writer(fd, owner=live.owner, host_id=host_id)
                or live.owner.is_running(host_id=host_id) is False
            ):
                live = None
    except FileNotFoundError:
        return  # its user removed it, or a compaction did, which its commit shows
    except (OSError, DamagedFileError) as error:
        snapshot.unreadable[raw] = _reason(error)
        return
    snapshot.add(name, entries)
    if live:
        snapshot.live.append(live)


def read_entries(data: bytes, *, used: int, name: FileName) -> dict[bytes, Sequence[Number]]:
    """Read a file's entries; raises DamagedFileError if any of them makes no sense.

    Counters in a file of this package are never negative, infinite or NaN.
    """
    entries: dict[bytes, Sequence[Number]] = {}
    for key, number in unpack_entries(data, start=HEADER.size, end=used):
        check_key(key, kind=name.kind)
        if name.owner and not 0 <= number.value < math.inf:
            raise DamagedFileError(f"{number.value} is not a count, for {key[:80]!r}")
        entries[key] = [number]
    return entries


def _read_live(
    owner: ProcessIdentity | None, data: bytes, entries: Mapping[bytes, Sequence[Number]]
) -> LiveProcess | None:
    if owner is None:
        return None
    counters = {key: number.value for key, (number,) in entries.items()}
    gauges = {key: number.value for key, number in read_gauges(data)}
    for key in gauges:
        check_key(key, kind="gauge")
    return LiveProcess(owner, counters, gauges)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
