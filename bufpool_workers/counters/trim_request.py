"""A request to processes to trim their pools, by way of the files that they count in."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from pathlib import Path

from bufpool_workers.counters.catalog import DEFAULT_NAMESPACE, Catalog
from bufpool_workers.counters.format import DamagedFileError
from bufpool_workers.counters.layout import TRIM_ASKED, gauge_place
from bufpool_workers.counters.liveness import current_host_id
from bufpool_workers.counters.names import FileName, list_names, read_used
from bufpool_workers.errors import MetricsError


def ask_to_trim(
    directory: str | os.PathLike[str],
    *,
    pids: Collection[int],
    unix_seconds: float,
    namespace: str = DEFAULT_NAMESPACE,
) -> int:
    """Ask processes of this machine to trim; each looks at the end of its tasks.

    Returns how many of `pids` were asked: those that count there. Raises MetricsError when the
    directory can't be listed, or a file of theirs is damaged or not to be written.
    """
    key = Catalog(namespace).key(TRIM_ASKED)
    asked, directory = set(), Path(directory)
    try:
        for name in list_names(directory):
            pid = _pid(name)
            if pid in pids and _ask(directory / name, key, unix_seconds):
                asked.add(pid)
    except (OSError, DamagedFileError) as error:
        raise MetricsError(f"metrics directory {str(directory)!r}: {error}") from error
    return len(asked)


def _pid(name: str) -> int | None:
    try:
        owner = FileName.parse(name).owner
    except DamagedFileError:  # some other file, which scrapes name
        return None
    return owner.pid if owner and owner.host_id == current_host_id() else None


def _ask(path: Path, key: bytes, unix_seconds: float) -> bool:
    try:
        with path.open("r+b", buffering=0) as file:
            data, used = read_used(file.fileno(), whole=True)
            at = gauge_place(data, key, used=used)
            os.pwrite(file.fileno(), struct.pack("=d", unix_seconds), at)
    except FileNotFoundError:  # its process has ended, and a compaction has taken it in
        return False
    return True
