"""A directory's files, read without a lock while processes die and others merge them."""

import os
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Final

from bufpool_workers.counters.columns import Part, Shape, Shapes, check_entry
from bufpool_workers.counters.directory import Directory, fault_of, identity, open_file
from bufpool_workers.counters.format import (
    HEADER,
    LIVE_ONLY_KINDS,
    DamagedFileError,
    Number,
    unpack_entries,
)
from bufpool_workers.counters.layout import gauges_start
from bufpool_workers.counters.liveness import current_host_id, has_writer
from bufpool_workers.counters.mergedfile import MergedFile
from bufpool_workers.counters.names import OWN_KIND, SUFFIX, FileName, is_leftover, merged_name
from bufpool_workers.counters.series import LiveProcess, Snapshot
from bufpool_workers.errors import MetricsError

_ATTEMPTS: Final = 200
_OWN_GAUGES: Final = "gauge_livesum"  # the kind whose rules they follow
_MERGED_EARLIER: Final = -(2**63)


def read_directory(
    directory: str | os.PathLike[str], *, shapes: Shapes | None = None, foreign: bool = False
) -> Snapshot:
    """Read every file that counts, each exactly once, however many die and are compacted meanwhile.

    Takes no lock: it starts over when a compaction has come between. `shapes` are kept from one
    reading to the next. `foreign`: third-party files may be merged too. Raises MetricsError when
    the directory can't be listed.
    """
    shapes = shapes or Shapes()
    shown = repr(os.fspath(directory))
    for _ in range(_ATTEMPTS):
        try:
            with Directory(directory) as opened:
                snapshot = _Reader(shapes, foreign=foreign).read(opened)
        except OSError as error:
            raise MetricsError(
                f"metrics directory {shown}: {fault_of(directory, error)}; name the one that the "
                "workers count in, which this process may read"
            ) from error
        if snapshot:
            shapes.forget_unused()
            return snapshot
    raise MetricsError(
        f"metrics directory {shown}: compacted during each of {_ATTEMPTS} reads; "
        "is another program writing there"
    )


def read_files(paths: Sequence[Path]) -> Snapshot:
    """Read the files given, also those that are merged into another one of them."""
    reader = _Reader(Shapes(), foreign=False)
    for path in paths:
        reader.read_file(path.name, open_file(path))
    return reader.snapshot


class _Reader:
    """One reading of a directory."""

    def __init__(self, shapes: Shapes, *, foreign: bool) -> None:
        self._shapes = shapes
        self._foreign = foreign
        self._host_id = current_host_id()
        self.snapshot = Snapshot()

    def read(self, directory: Directory) -> Snapshot | None:
        """Read everything; None if a compaction has come between."""
        snapshot = self.snapshot
        names = directory.names()
        snapshot.is_unmerged = any(map(is_leftover, names))
        before = _parse_names(names, snapshot)
        with ExitStack() as stack:  # keeps the merged files open, so that no other has their inode
            merged: dict[str, MergedFile] = {}
            for name in before:
                if name.is_merged:
                    try:
                        merged[name.kind] = file = stack.enter_context(
                            MergedFile.opened(directory, kind=name.kind, shapes=self._shapes)
                        )
                    except FileNotFoundError:
                        return None
                    except (OSError, DamagedFileError) as error:
                        snapshot.unreadable[name.name] = _reason(error)
                    else:
                        self._add_merged(name, file)
            for name in before:
                is_counted = name.kind in merged and name.name in merged[name.kind].sources
                if not (name.is_merged or is_counted):
                    self.read_file(name.name, directory.open(name.name))
            # A listing is not atomic: a claim's rename may hide both of its names from one, but the
            # new one is there in the next, unless a commit has followed, which the inode shows.
            after = _parse_names(directory.names(), snapshot)
            if {name for name in after if name.is_claimed} - set(before):
                return None
            if not all(
                _merged_unchanged(directory, kind, merged.get(kind))
                for kind in {name.kind for name in (*before, *after)}
                if merged_name(kind) not in snapshot.unreadable or kind in merged
            ):
                return None
        return snapshot

    def _add_merged(self, name: FileName, file: MergedFile) -> None:
        self.snapshot.add(name, file.part, moment=_MERGED_EARLIER + file.moment)
        self.snapshot.is_unmerged |= bool(file.sources)
        # none where all sums were exact
        parts = zip_longest(*file.remainders.values(), fillvalue=0.0)
        shape = Shape(tuple(file.remainders))
        for row in parts:
            self.snapshot.add(name, Part(shape, array("d", row)))

    def read_file(self, raw: str, opened: AbstractContextManager[int]) -> None:
        """Read a file that is not a merged one, as far as it makes sense."""
        snapshot = self.snapshot
        try:
            name = FileName.parse(raw)
            with opened as fd:
                part, data = self._shapes.read_file(fd, name)
                writer = self._has_writer(fd, name)
                if writer is False and name.kind in LIVE_ONLY_KINDS:
                    return  # compaction drops it
                live = None
                if name.owner and name.kind == OWN_KIND:
                    is_living = writer and name.owner.is_running(host_id=self._host_id) is not False
                    live, part = self._read_gauges(name, data, part, is_living=bool(is_living))
                moment = os.fstat(fd).st_mtime_ns if name.kind.startswith("gauge") else 0
        except FileNotFoundError:
            return  # its user removed it, or a compaction did, which its commit shows
        except (OSError, DamagedFileError) as error:
            snapshot.unreadable[raw] = _reason(error)
            return
        snapshot.add(name, part, moment=moment)
        if live:
            snapshot.live.append(live)

    def _has_writer(self, fd: int, name: FileName) -> bool | None:
        if name.owner is None and not self._foreign:
            return None  # it makes no difference
        writer = has_writer(fd, owner=name.owner, host_id=self._host_id)
        self.snapshot.is_unmerged |= writer is not True
        return writer

    def _read_gauges(
        self, name: FileName, data: bytes, part: Part, *, is_living: bool
    ) -> tuple[LiveProcess | None, Part]:
        try:
            where = gauges_start(data), len(data)
            if name.owner is None or not is_living:
                return None, part
            gauges = self._shapes.read(data, where, kind=_OWN_GAUGES, file=name.name)
        except DamagedFileError as error:
            return None, part._replace(problem=part.problem or str(error))
        live = LiveProcess(name.owner, part.shape, part.row, gauges.shape, gauges.row)
        return live, part._replace(problem=part.problem or gauges.problem)


def _merged_unchanged(directory: Directory, kind: str, merged: MergedFile | None) -> bool:
    try:
        now = identity(directory.stat(merged_name(kind)))
    except FileNotFoundError:
        now = None
    return now == (merged.identity if merged else None)


def _parse_names(names: list[str], snapshot: Snapshot) -> list[FileName]:
    parsed = []
    for name in sorted(name for name in names if name.endswith(SUFFIX)):
        try:
            parsed.append(FileName.parse(name))
        except DamagedFileError as error:
            snapshot.unreadable[name] = str(error)
    return parsed


def read_entries(data: bytes, *, used: int, name: FileName) -> dict[bytes, Sequence[Number]]:
    """Read a file's entries; raises DamagedFileError if any of them makes no sense.

    Counters in a file of this package are never negative, infinite or NaN.
    """
    entries: dict[bytes, Sequence[Number]] = {}
    for key, number in unpack_entries(data, start=HEADER.size, end=used):
        check_entry(key, number, kind=name.kind, counts=name.owner is not None)
        entries[key] = [number]
    return entries


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
