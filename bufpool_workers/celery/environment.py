"""The metrics directory of a worker: put in place before anything imports prometheus_client.

Imports neither prometheus_client nor what does: it decides at its import, by the variable that
this module sets, whether its metrics are shared by processes.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import click

from bufpool_workers.errors import MetricsError

logger = logging.getLogger(__name__)

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SETTER = "BUFPOOL_METRICS_DIR_SETTER"  # the pid of the worker that set it itself
_PREFIX = "bufpool-metrics-"
_SIGN = "node.json"
_SIGN_BYTES = 4096
_SHM = Path("/dev/shm")  # noqa: S108 - tmpfs; what is made in it is private
_CLIENT = "prometheus_client"

_private: Path | None = None
_early_importers: tuple[str, ...] = ()


def prepare() -> None:
    """Give a worker that has no metrics directory a private one, which ends with it.

    Does nothing for any other command, and where the deployment has set the variable; raises
    MetricsError, before a metric in a task module fails with less, when that one isn't there.
    """
    global _private, _early_importers  # noqa: PLW0603 - a process has one environment
    command = _command()
    if command[:1] == ["bufpool"] and "doctor" in command:
        _early_importers = _importers()
    # --detach: it ends here and goes on as another process, whose directory is to be its own
    if command[:1] != ["worker"] or {"-D", "--detach"} & set(command) or _private is not None:
        return
    if _is_set_here():  # by what it ran before SIGHUP, and the lock of that is gone
        os.environ.pop(VARIABLE, None)
    given = os.environ.get(VARIABLE)
    if given:
        if not Path(given).is_dir():
            raise MetricsError(
                f"metrics directory {given!r}: it does not exist; create it, or leave {VARIABLE} "
                "out for a private one"
            )
        return
    _early_importers = _importers()
    _private = _make_private()
    _set(str(_private))


class Sign(NamedTuple):
    """Whose a private directory is: how other processes of this host find a node's numbers."""

    node: str
    app: str | None
    pid: int


def sign(*, node: str, app: str | None) -> None:
    """Say in this worker's private directory whose it is; does nothing where it uses none."""
    if _private is not None and directory() == _private:
        whole = _private / f".{_SIGN}"
        whole.write_text(json.dumps(Sign(node, app, os.getpid())._asdict()), encoding="utf-8")
        whole.rename(_private / _SIGN)


def find_private() -> Iterator[tuple[Path, Sign]]:
    """Find the private directories of this host's living workers, as far as they may be read."""
    for base in dict.fromkeys((_SHM, Path(tempfile.gettempdir()))):
        for path in sorted(base.glob(f"{_PREFIX}*")):
            try:
                if not _is_locked(path):
                    continue
                found = _read_sign(path)
            except (OSError, ValueError, TypeError, KeyError):  # another user's, or not yet signed
                continue
            yield path, found


def _read_sign(path: Path) -> Sign:
    # where everybody may make directories of that name, nothing in them is trusted
    fd = os.open(path / _SIGN, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or os.geteuid() not in {0, status.st_uid}:
            raise PermissionError(f"{path} is somebody else's")
        told = json.loads(os.read(fd, _SIGN_BYTES))
    finally:
        os.close(fd)
    return Sign(str(told["node"]), told["app"], int(told["pid"]))


def settle(metrics_dir: str | None) -> None:
    """Let the setting `bufpool_metrics_dir` have its way.

    Raises MetricsError when the setting and the environment name two directories.
    """
    before = os.environ.get(VARIABLE)
    if metrics_dir is None or (before and Path(before) == Path(metrics_dir)):
        return
    if before and _private is None:
        raise MetricsError(
            f"bufpool_metrics_dir is {metrics_dir!r}, but {VARIABLE} is {before!r}: "
            "leave one of them out"
        )
    _set(metrics_dir)


def warn_of_lost(*, is_prefork: bool) -> None:
    """Say which prometheus_client metrics of this worker are in no scrape; call `settle` first."""
    if directory() is not None and not _is_set_here():
        return  # there before anything was imported
    if _private is None:
        importers = _importers()
        if importers:
            logger.warning(
                "bufpool: this worker was not started by the command `celery worker`, and %s was "
                "imported by %s without %s: its metrics made until then are each process's own and "
                "will not be scraped; set %s in the worker's environment",
                _CLIENT,
                ", ".join(importers),
                VARIABLE,
                VARIABLE,
            )
        return
    if _early_importers:
        logger.warning(
            "bufpool: %s was imported by %s before %s was set: its metrics made until then are "
            "each process's own and will not be scraped; call bufpool_workers.setup(app) before "
            "that import, or set %s in the worker's environment",
            _CLIENT,
            ", ".join(_early_importers),
            VARIABLE,
            VARIABLE,
        )
    # a prefork child opens files of its own, after the fork
    if directory() != _private and not is_prefork and any(_private.glob("*.db")):
        logger.warning(
            "bufpool: %s opened its files before bufpool_metrics_dir was read: the metrics made "
            "until then will not be scraped; instead of the setting, set %s=%s in the worker's "
            "environment",
            _CLIENT,
            VARIABLE,
            directory(),
        )


def directory() -> Path | None:
    """Give the directory in which this process counts, if there is one."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value else None


def restore() -> None:
    """Make the directory anew where something has removed it under a running worker.

    systemd-logind does, with RemoveIPC=, when the worker's user logs out of its last session.
    """
    path = directory()
    if path is not None:
        with suppress(OSError):  # whoever then fails to use it says what is wrong
            path.mkdir(mode=0o700 if path.name.startswith(_PREFIX) else 0o777)


def early_importers() -> tuple[str, ...]:
    """Name the modules that imported prometheus_client before `prepare`, in a worker or doctor."""
    return _early_importers


def _set(path: str) -> None:
    os.environ.update({VARIABLE: path, _SETTER: str(os.getpid())})


def _is_set_here() -> bool:
    """Whether this process has set the variable; SIGHUP has it run its program anew, same pid."""
    return os.environ.get(_SETTER) == str(os.getpid())


def _command() -> list[str]:
    """Give the words of the `celery` command that this process runs, without `-A app` and such."""
    program = Path(sys.argv[0])
    is_celery = program.name == "celery" or program.parts[-2:] == ("celery", "__main__.py")
    module = sys.modules.get("celery.bin.celery")  # not there in a spawned child
    if not is_celery or module is None:
        return []
    try:
        parser = module.celery.make_parser(click.Context(module.celery))
        return list(parser.parse_args(sys.argv[1:])[1])
    except click.UsageError:
        return []


def private_base() -> Path:
    """Give the directory in which private ones are made: on tmpfs, if it can be had."""
    return _SHM if os.access(_SHM, os.W_OK) else Path(tempfile.gettempdir())


def _make_private() -> Path:
    base = private_base()
    _sweep(base)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    while _lock(path) is None:  # swept by another worker's start, just before the lock
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    atexit.register(_remove, path, os.getpid())
    return path


def _remove(path: Path, pid: int) -> None:
    if pid == os.getpid():  # not a child that got the registration by fork
        shutil.rmtree(path, ignore_errors=True)


def _sweep(base: Path) -> None:
    """Remove the directories of workers that were killed, which nobody locks any more."""
    for path in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's
            fd = _lock(path)
            if fd is not None:
                try:
                    if not _is_counted_in(path):
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(fd)


def _is_counted_in(path: Path) -> bool:
    """Whether a process counts there: in one that was made anew, whose lock has gone (restore)."""
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


def _is_locked(path: Path, kind: int = os.O_DIRECTORY) -> bool:
    fd = os.open(path, os.O_RDONLY | kind | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _importers() -> tuple[str, ...]:
    """Name the modules that hold something of an already imported prometheus_client."""
    if _CLIENT not in sys.modules:
        return ()

    def is_of_client(thing: object) -> bool:
        where = getattr(thing, "__module__", None) or getattr(thing, "__name__", None)
        return isinstance(where, str) and where.partition(".")[0] == _CLIENT

    return tuple(
        sorted(
            name
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] not in {_CLIENT, "bufpool_workers"}
            and any(map(is_of_client, list(vars(module).values())))
        )
    ) or ("another module",)
