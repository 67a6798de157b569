"""A request to processes to trim their pools, by way of the files that they count in."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import ExitStack

from bufpool_workers.counters.catalog import DEFAULT_NAMESPACE, Catalog
from bufpool_workers.counters.directory import Directory, fault_of
from bufpool_workers.counters.format import DamagedFileError, OtherVersionError, read_used
from bufpool_workers.counters.layout import DOUBLE, TRIM_ASKED, check_live_version, gauge_place
from bufpool_workers.counters.liveness import current_host_id
from bufpool_workers.counters.names import OWN_KIND, FileName
from bufpool_workers.errors import MetricsError


def ask_to_trim(
    directory: str | os.PathLike[str],
    *,
    pids: Collection[int],
    unix_seconds: float,
    namespace: str = DEFAULT_NAMESPACE,
) -> int:
    """Ask processes of this machine to trim; each looks at the end of its tasks.

    Returns how many of `pids` were asked: those that count there, as this process's user or as the
    directory's owner. Raises MetricsError when the directory can't be listed, or a file of theirs
    is damaged.
    """
    key = Catalog(namespace).key(TRIM_ASKED)
    asked = set()
    try:
        with Directory(directory) as opened:
            for name in opened.metric_names():
                pid = _pid(name)
                if pid in pids and _ask(opened, name, key, unix_seconds):
                    asked.add(pid)
    except (OSError, DamagedFileError) as error:
        fault = fault_of(directory, error) if isinstance(error, OSError) else error
        raise MetricsError(f"metrics directory {os.fspath(directory)!r}: {fault}") from error
    return len(asked)


def _pid(name: str) -> int | None:
    try:
        file = FileName.parse(name)
    except DamagedFileError:  # some other file, which scrapes name
        return None
    if file.owner is None or file.kind != OWN_KIND or file.owner.host_id != current_host_id():
        return None
    return file.owner.pid


def _ask(directory: Directory, name: str, key: bytes, unix_seconds: float) -> bool:
    with ExitStack() as stack:
        try:
            fd = stack.enter_context(directory.open_own(name))
        except FileNotFoundError:  # its process has ended, and a compaction has taken it in
            return False
        except (PermissionError, DamagedFileError):  # another user's, who named it as if it were
            return False
        data, used = read_used(fd, whole=True)
        try:
            check_live_version(data)
        except OtherVersionError:  # another release's, which knows where its gauges lie
            return False
        os.pwrite(fd, DOUBLE.pack(unix_seconds), gauge_place(data, key, used=used))
    return True
