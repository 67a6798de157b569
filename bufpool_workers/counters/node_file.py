"""Who counts in a metrics directory: each node's main process says it in a file of its own."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Final, Self

from bufpool_workers._record import record_class
from bufpool_workers.counters.directory import Directory
from bufpool_workers.counters.format import DamagedFileError
from bufpool_workers.counters.liveness import ProcessIdentity, current_host_id, is_locked
from bufpool_workers.counters.names import TEMPORARY

_NAME: Final = re.compile(r"\.bufpool-node-([0-9a-f]{8})-(\d{1,9})-(\d{1,18})\.json")
_MOST_BYTES: Final = 32 * 1024
_MOST_NODES: Final = 100
_MOST_CHARACTERS: Final = 200
_NO_NODE: Final = (
    *(OSError, DamagedFileError),
    *(ValueError, TypeError, KeyError, AttributeError, RecursionError),  # of any JSON
)


@record_class(frozen=True, kw_only=True, slots=True)
class NodeInfo:
    """A node: its main process, versions, and the settings in force, without anything secret.

    `started` is in Unix seconds. `software` maps packages to versions. `changed` names the settings
    that are not at their defaults.
    """

    node: str
    host: str
    app: str | None = None
    pid: int
    started: float
    software: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    changed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON."""
        return asdict(self) | {"changed": list(self.changed)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Read what `as_dict` returned; raises what Python does for anything else."""
        app = given.get("app")
        return cls(
            node=_text(given["node"]),
            host=_text(given["host"]),
            app=None if app is None else _text(app),
            pid=int(given["pid"]),
            started=float(given["started"]),
            software={_text(name): _text(of) for name, of in dict(given["software"]).items()},
            settings={_text(name): value for name, value in dict(given["settings"]).items()},
            changed=tuple(map(_text, given["changed"])),
        )


def _text(value: object) -> str:
    return str(value)[:_MOST_CHARACTERS]


def publish(directory: str | os.PathLike[str], info: NodeInfo) -> None:
    """Write who this node is; the file ends with its main process, if that is the calling one.

    Else each of the node's processes writes it. Removes the files of nodes that were killed.
    Raises OSError.
    """
    owner = _identity(info.pid)
    name = f".bufpool-node-{'-'.join(map(str, owner))}.json"
    temporary = f"{name}-{os.urandom(4).hex()}{TEMPORARY}"
    with Directory(directory, counting=True) as opened:
        _sweep(opened)
        fd = opened.create(temporary)
        try:
            os.write(fd, json.dumps(info.as_dict()).encode()[:_MOST_BYTES])
            fcntl.flock(fd, fcntl.LOCK_EX)  # for life, for readers in other containers
            opened.rename(temporary, name)
        except BaseException:
            os.close(fd)
            opened.unlink(temporary)
            raise
    if info.pid == os.getpid():
        atexit.register(_remove, Path(directory, name), os.getpid())


def read_nodes(directory: str | os.PathLike[str]) -> tuple[NodeInfo, ...]:
    """Read who counts there now, by name; what is no such file is left out."""
    found = []
    with suppress(OSError), Directory(directory) as opened:
        for name, owner in _files(opened):
            try:
                with opened.open_trusted(name) as fd:
                    if _is_living(fd, owner):
                        found.append(NodeInfo.from_dict(json.loads(os.read(fd, _MOST_BYTES + 1))))
            except _NO_NODE:
                continue  # gone meanwhile, or not made by this package: it only says names
    return tuple(sorted(found, key=lambda info: (info.node, info.pid)))


def _files(directory: Directory) -> Iterator[tuple[str, ProcessIdentity]]:
    matches = [match for name in sorted(directory.names()) if (match := _NAME.fullmatch(name))]
    for match in matches[:_MOST_NODES]:
        host_id, pid, started = match.groups()
        yield match[0], ProcessIdentity(host_id, int(pid), int(started))


def _is_living(fd: int, owner: ProcessIdentity) -> bool:
    running = owner.is_running(host_id=current_host_id())
    return is_locked(fd) if running is None else running


def _sweep(directory: Directory) -> None:
    for name, owner in _files(directory):
        with suppress(OSError, DamagedFileError), directory.open(name) as fd:
            if not _is_living(fd, owner):
                directory.unlink(name)


def _remove(path: Path, pid: int) -> None:
    if pid == os.getpid():  # not a child that got the registration by fork
        with suppress(OSError), Directory(path.parent) as directory:
            directory.unlink(path.name)


def process_started(pid: int) -> float:
    """Return when a process of this host started, in Unix seconds."""
    return time.time() - _identity(pid).age_seconds()


def _identity(pid: int) -> ProcessIdentity:
    return ProcessIdentity.current() if pid == os.getpid() else ProcessIdentity.of(pid)
