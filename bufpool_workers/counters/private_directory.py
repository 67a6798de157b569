"""Private metrics directories: each made by one node's main process, which it ends with.

Where the main process is another program's, as Dramatiq's is, the node's processes share one whose
name follows from that process; it ends with them.

Other processes of the host find a node's numbers there by its manifest. A lock tells the
directories of living nodes from those of the dead.

Every user may make directories of that name. A process believes those of its own user, and root
those of a user whose living process the manifest names. Only its own user's are removed.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from bufpool_workers.counters.directory import Directory, is_writable_for_others
from bufpool_workers.counters.format import DamagedFileError
from bufpool_workers.counters.liveness import ProcessIdentity, current_host_id, is_locked, user_of

PREFIX = "bufpool-metrics-"
_MANIFEST = "node.json"
_MANIFEST_BYTES = 4096
# ArithmeticError: an int that is infinite; RecursionError: brackets in brackets
_SENSELESS = (ValueError, TypeError, KeyError, ArithmeticError, RecursionError)
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


def join(leader: ProcessIdentity) -> tuple[Path, Directory]:
    """Find or make the directory of the node whose main process is `leader`.

    Return it held for this process: `leave` takes that. It stays while the leader runs, or a
    process holds it. Raises OSError if it can't be made: PermissionError if another user has taken
    its name.
    """
    where = base()
    _sweep(where)
    path = where / f"{PREFIX}{'-'.join(map(str, leader))}"
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        with suppress(FileNotFoundError):  # swept, just before
            return path, _hold(path)


def leave(path: Path, directory: Directory, *, last: bool) -> None:
    """Stop holding a directory that this process joined.

    With `last`, since the node comes to its end, the last process that holds it removes it.
    """
    with directory:
        if last:
            try:
                fcntl.flock(directory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            shutil.rmtree(path, ignore_errors=True)


def recreate(path: Path) -> None:
    """Make the directory again if something has removed it under a running node.

    systemd-logind does, with RemoveIPC=, when the node's user logs out of its last session.
    Another user may have been first: `Directory` refuses to count in what that user made.
    """
    with suppress(OSError):  # the caller, who fails to use it then, says what is wrong
        path.mkdir(mode=0o700 if is_named_as_one(path) else 0o777)


def is_named_as_one(path: Path) -> bool:
    """Return whether a path has the name of a private directory."""
    return path.name.startswith(PREFIX)


def advertise(path: Path, manifest: NodeManifest) -> None:
    """Write the manifest of a private directory."""
    with Directory(path, counting=True) as directory:
        content = json.dumps(manifest._asdict()).encode()
        directory.replace(_MANIFEST, content, prefix=f".{_MANIFEST}-")


def discover() -> Iterator[tuple[Path, NodeManifest]]:
    """Find the private directories of this host's living nodes, as far as they are believed."""
    for where in dict.fromkeys((_SHM, Path(tempfile.gettempdir()))):
        for path in sorted(where.glob(f"{PREFIX}*")):
            try:
                with Directory(path) as directory:
                    if not is_locked(directory.fd, shared=True):
                        continue
                    found = _read_manifest(directory)
            except (OSError, *_SENSELESS):  # another user's, or not yet written
                continue
            yield path, found


def _read_manifest(directory: Directory) -> NodeManifest:
    with directory.open(_MANIFEST) as fd:
        status = os.fstat(fd)
        told = json.loads(os.read(fd, _MANIFEST_BYTES))
    manifest = NodeManifest(str(told["node"]), told["app"], int(told["pid"]))
    if not (manifest.node.isprintable() and isinstance(manifest.app, str | None)):
        raise ValueError("no node has such a name")
    _check_private(directory, user=status.st_uid)
    if is_writable_for_others(status) or not _is_believed(status.st_uid, manifest):
        raise PermissionError(errno.EPERM, "another user may have written it")
    return manifest


def _is_believed(user: int, manifest: NodeManifest) -> bool:
    reader = os.geteuid()
    return user == reader or (reader == 0 and user_of(manifest.pid) == user)


def _check_private(directory: Directory, *, user: int) -> None:
    if directory.status.st_uid != user or is_writable_for_others(directory.status):
        raise PermissionError(errno.EPERM, "another user may write in it")


def _remove(path: Path, pid: int) -> None:
    if pid == os.getpid():  # not a child that got the registration by fork
        with suppress(OSError), Directory(path) as directory:
            _check_private(directory, user=os.geteuid())
            shutil.rmtree(path, ignore_errors=True)


def _sweep(where: Path) -> None:
    """Remove the directories of nodes that were killed, which no process locks any more."""
    for path in where.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's
            directory = _lock(path)
            if directory is not None:
                with directory:
                    if not _is_led(path) and not _is_counted_in(directory):
                        shutil.rmtree(path, ignore_errors=True)


def _is_counted_in(directory: Directory) -> bool:
    """Return whether a process counts there: in one made again (recreate), without its lock."""
    for name in directory.metric_names():
        with suppress(DamagedFileError), directory.open(name) as fd:
            if is_locked(fd):
                return True
    return False


def _lock(path: Path) -> Directory | None:
    """Lock the directory for as long as this process or a child of it lives."""
    with suppress(FileNotFoundError, BlockingIOError), ExitStack() as stack:
        directory = stack.enter_context(Directory(path))
        _check_private(directory, user=os.geteuid())
        fcntl.flock(directory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(directory.status, path.lstat()):
            stack.pop_all()
            return directory
    return None


def _hold(path: Path) -> Directory:
    """Share the lock on a node's directory; raises FileNotFoundError if that goes away."""
    with ExitStack() as stack:
        directory = stack.enter_context(Directory(path, counting=True))
        _check_private(directory, user=os.geteuid())
        fcntl.flock(directory.fd, fcntl.LOCK_SH)
        if not os.path.samestat(directory.status, path.lstat()):
            raise FileNotFoundError(errno.ENOENT, f"{path} was made again")
        stack.pop_all()
        return directory


def _is_led(path: Path) -> bool:
    """Return whether the main process runs that a directory of `join` is named after."""
    try:
        host_id, pid, started = path.name.removeprefix(PREFIX).split("-")
        leader = ProcessIdentity(host_id, int(pid), int(started))
    except ValueError:  # one of `make`
        return False
    return leader.is_running(host_id=current_host_id()) is True
