"""Private metrics directories: each made by one node's main process, which it ends with.

Where the main process is another program's, as Dramatiq's is, the node's processes share one whose
name follows from that process; it ends with the last of them.

Other processes of the host find a node's numbers there by its manifest. A lock tells the
directories of living nodes from those of the dead.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bufpool_workers.counters.liveness import ProcessIdentity

PREFIX = "bufpool-metrics-"
_MANIFEST = "node.json"
_MANIFEST_BYTES = 4096
_SHM = Path("/dev/shm")  # noqa: S108 - tmpfs; what is made in it is private


class NodeManifest(NamedTuple):
    """Says which node a private directory belongs to, and to which of its host's apps."""

    node: str
    app: str | None
    pid: int


def base() -> Path:
    """Return the directory in which private ones are made: on tmpfs if possible."""
    return _SHM if os.access(_SHM, os.W_OK) else Path(tempfile.gettempdir())


def make() -> Path:
    """Make a directory that ends with this process; remove those whose processes were killed.

    Raises OSError if none can be made.
    """
    where = base()
    _sweep(where)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
    while _lock(path) is None:  # swept by another node's start, just before the lock
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
    atexit.register(_remove, path, os.getpid())
    return path


def join(leader: ProcessIdentity) -> tuple[Path, int]:
    """Find or make the directory of the node whose main process is `leader`.

    Return it with a descriptor that holds it for this process: `leave` takes that. Raises OSError
    if it can't be had, which is a PermissionError if another user has taken its name.
    """
    where = base()
    _sweep(where)
    name = f"{os.geteuid()}-{leader.host_id}-{leader.pid}-{leader.started}"
    path = where / f"{PREFIX}{name}"
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        fd = _hold(path)
        if fd is not None:
            return path, fd


def leave(path: Path, fd: int) -> None:
    """Stop holding a directory that this process joined; the last one that does removes it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(fd)


def recreate(path: Path) -> None:
    """Make the directory again if something has removed it under a running node.

    systemd-logind does, with RemoveIPC=, when the node's user logs out of its last session.
    """
    with suppress(OSError):  # the caller, who fails to use it then, says what is wrong
        path.mkdir(mode=0o700 if path.name.startswith(PREFIX) else 0o777)


def advertise(path: Path, manifest: NodeManifest) -> None:
    """Write the manifest of a private directory."""
    whole = path / f".{_MANIFEST}.{os.getpid()}"  # several processes of a node may write it
    whole.write_text(json.dumps(manifest._asdict()), encoding="utf-8")
    whole.rename(path / _MANIFEST)


def discover() -> Iterator[tuple[Path, NodeManifest]]:
    """Find the private directories of this host's living nodes, as far as they may be read."""
    for where in dict.fromkeys((_SHM, Path(tempfile.gettempdir()))):
        for path in sorted(where.glob(f"{PREFIX}*")):
            try:
                if not _is_locked(path):
                    continue
                found = _read_manifest(path)
            except (OSError, ValueError, TypeError, KeyError):  # another user's, or not yet written
                continue
            yield path, found


def _read_manifest(path: Path) -> NodeManifest:
    # every user may make directories of that name: nothing in them is trusted
    fd = os.open(path / _MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or os.geteuid() not in {0, status.st_uid}:
            raise PermissionError(f"{path} belongs to another user")
        told = json.loads(os.read(fd, _MANIFEST_BYTES))
    finally:
        os.close(fd)
    return NodeManifest(str(told["node"]), told["app"], int(told["pid"]))


def _remove(path: Path, pid: int) -> None:
    if pid == os.getpid():  # not a child that got the registration by fork
        shutil.rmtree(path, ignore_errors=True)


def _sweep(where: Path) -> None:
    """Remove the directories of nodes that were killed, which no process locks any more."""
    for path in where.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's
            fd = _lock(path)
            if fd is not None:
                try:
                    if not _is_counted_in(path):
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(fd)


def _is_counted_in(path: Path) -> bool:
    """Return whether a process counts there: in one made again (recreate), without its lock."""
    return any(_is_locked(file, os.O_NONBLOCK) for file in path.glob("*.db"))


def _lock(path: Path) -> int | None:
    """Lock the directory for as long as this process or a child of it lives."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _hold(path: Path) -> int | None:
    """Share the lock on a node's directory; None if the directory went away before."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except NotADirectoryError:  # a link, in a directory where everybody may make one
        raise _anothers(path) from None
    is_held = False
    try:
        status = os.fstat(fd)
        if status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077:
            fcntl.flock(fd, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                is_held = os.path.samestat(status, path.stat())
            return fd if is_held else None
    finally:
        if not is_held:
            os.close(fd)
    raise _anothers(path)


def _anothers(path: Path) -> PermissionError:
    return PermissionError(errno.EPERM, f"{path} is not this user's own")


def _is_locked(path: Path, kind: int = os.O_DIRECTORY) -> bool:
    """Return whether a process holds a directory, alone or with others; or a counter file."""
    fd = os.open(path, os.O_RDONLY | kind | os.O_NOFOLLOW)
    lock = fcntl.LOCK_EX if kind == os.O_DIRECTORY else fcntl.LOCK_SH
    try:
        fcntl.flock(fd, lock | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)  # a child forked right now shares it, and would keep it
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
