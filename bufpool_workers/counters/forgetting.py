"""Forgetting: a metric that no living process has leaves the files of the dead.

Each file is replaced by one rename, under the lock of compaction. A file of prometheus_client is
first claimed, as compaction does it: no process opens it again, and no number of its other metrics
changes. SIGKILL may come anywhere: the same command drops what is left.
"""

import difflib
import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Final

from bufpool_workers.counters import catalog
from bufpool_workers.counters.compaction import finish, locked, read_merged
from bufpool_workers.counters.directory import Directory, fault_of
from bufpool_workers.counters.format import (
    HEADER,
    DamagedFileError,
    Number,
    OtherVersionError,
    pack_entry,
    parse_key,
    read_used,
)
from bufpool_workers.counters.liveness import current_host_id, has_writer
from bufpool_workers.counters.mergedfile import MergedFile
from bufpool_workers.counters.names import MERGE_PREFIX, FileName, merged_name
from bufpool_workers.counters.snapshot import read_entries
from bufpool_workers.errors import MetricsError

_SHOWN: Final = 3
_TABLES: Final = (catalog.COUNTERS, catalog.POOL_GAUGES, catalog.DERIVED)
_OWN: Final = frozenset(
    {spec for spec in vars(catalog).values() if isinstance(spec, catalog.MetricSpec)}
    | set(chain.from_iterable(_TABLES))
)


def forget(
    directory: str | os.PathLike[str], metric: str, *, namespace: str = catalog.DEFAULT_NAMESPACE
) -> int:
    """Drop a metric, by its name or a sample's, from the files of the dead; return its series.

    Raises MetricsError where a living process has the metric, where it is this package's own or
    unknown, and where a file can't be read or replaced.
    """
    shown = f"metrics directory {os.fspath(directory)!r}"
    if metric.removesuffix("_total") in {f"{namespace}_{spec.suffix}" for spec in _OWN}:
        raise MetricsError(_own(metric))
    try:
        with Directory(directory) as opened, locked(opened) as is_locked:
            if not is_locked:
                raise MetricsError(f"{shown}: another process compacts it right now; try again")
            return _Forgetting(opened, shown).forget(metric)
    except OSError as error:
        raise MetricsError(f"{shown}: {fault_of(directory, error)}") from error


class _Forgetting:
    def __init__(self, directory: Directory, shown: str) -> None:
        self._directory = directory
        self._shown = shown
        self._host_id = current_host_id()

    def forget(self, metric: str) -> int:
        files = self._read_keys()
        keys = frozenset(chain.from_iterable(files.values()))
        families = {parse_key(key).family for key in keys if not _is_own(key)}
        gone = {key for key in keys if metric in parse_key(key)[:2]}
        if not gone:
            raise MetricsError(f"{self._shown}: no metric {metric!r}; {_near(metric, families)}")
        if any(map(_is_own, gone)):
            raise MetricsError(_own(metric))
        wanted = {parse_key(key).family for key in gone}
        gone = {key for key in keys if parse_key(key).family in wanted}
        concerned = [name for name, found in files.items() if found & gone]
        for name in concerned:
            with self._open(name) as fd:
                self._check(fd, name, metric)
        for name in concerned:
            if name.is_merged:
                self._rewrite_merged(name.kind, gone)
            else:
                self._rewrite(name, gone, metric)
        return len(gone)

    def _read_keys(self) -> dict[FileName, AbstractSet[bytes]]:
        found: dict[FileName, AbstractSet[bytes]] = {}
        settled: set[str] = set()
        names = []
        for raw in self._directory.metric_names():
            try:
                names.append(FileName.parse(raw))
            except DamagedFileError:
                continue  # not a metric file; readers name it
        # first the merged ones: the files that they were made of are gone then
        for name in sorted(names, key=lambda name: not name.is_merged):
            if name.owner is not None or name.name in settled:
                continue  # it holds this package's own metrics alone, or is gone
            with suppress(FileNotFoundError), self._named(name):  # its user removed it
                if name.is_merged:
                    merged = read_merged(self._directory, name.kind)
                    settled |= set(merged.sources)
                    found[name] = finish(self._directory, name.kind, merged).numbers.keys()
                else:
                    with self._directory.open(name.name) as fd:
                        found[name] = _entries(fd, name).keys()
        return found

    def _rewrite_merged(self, kind: str, gone: AbstractSet[bytes]) -> None:
        numbers = read_merged(self._directory, kind).numbers
        kept = {key: parts for key, parts in numbers.items() if key not in gone}
        MergedFile.of(kind, kept, ()).replace(self._directory, merged_name(kind))

    def _rewrite(self, name: FileName, gone: AbstractSet[bytes], metric: str) -> None:
        with self._open(name) as fd:
            claimed = name.name if name.is_claimed else name.claimed()
            if claimed != name.name:
                self._directory.rename(name.name, claimed)
            # one that opened it just before the rename goes on in it, under its new name
            self._check(fd, name, metric)
            entries = _entries(fd, name)
            image = bytearray(HEADER.size)
            for key, number in entries.items():
                if key not in gone:
                    image += pack_entry(key, number)
            HEADER.pack_into(image, 0, len(image))
            self._directory.replace(claimed, bytes(image), prefix=MERGE_PREFIX)

    def _check(self, fd: int, name: FileName, metric: str) -> None:
        user = os.fstat(fd).st_uid
        if user != os.geteuid():  # replaced, it would be no longer theirs to merge
            raise MetricsError(
                f"{self._shown}: {name.name} is user {user}'s: run this as that user"
            )
        if name.is_merged:
            return
        writer = has_writer(fd, owner=None, host_id=self._host_id)
        if writer:
            raise MetricsError(
                f"{self._shown}: the living process {name.process} has {metric!r}: end it first, "
                "or start it again with code that has no such metric"
            )
        if writer is None:
            raise MetricsError(
                f"{self._shown}: can't find out whether process {name.process} still writes "
                f"{metric!r}: its file system has no leases (fcntl(2))"
            )

    @contextmanager
    def _open(self, name: FileName) -> Iterator[int]:
        with self._named(name), self._directory.open(name.name) as fd:
            yield fd

    @contextmanager
    def _named(self, name: FileName) -> Iterator[None]:
        try:
            yield
        except OtherVersionError as error:
            raise MetricsError(f"{self._shown}: {name.name}: {error}") from error
        except DamagedFileError as error:
            raise MetricsError(
                f"{self._shown}: {name.name} is damaged: {error}; move it away"
            ) from error


def _entries(fd: int, name: FileName) -> dict[bytes, Number]:
    data, used = read_used(fd, whole=False)
    entries = read_entries(data, used=used, name=name)
    return {key: number for key, (number, *_) in entries.items()}


def _is_own(key: bytes) -> bool:
    family, _, _, text = parse_key(key)
    return any(text == spec.help and family.endswith(f"_{spec.suffix}") for spec in _OWN)


def _own(metric: str) -> str:
    return f"{metric!r} is a metric of bufpool's own, which stays"


def _near(metric: str, families: AbstractSet[str]) -> str:
    near = difflib.get_close_matches(metric, sorted(families), n=_SHOWN)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    if not families:
        return "there is none but bufpool's own"
    some = sorted(families)
    rest = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return f"there are {', '.join(map(repr, some[:_SHOWN]))}{rest}"
