"""Which process writes to a file, and whether it still does.

A pid alone proves nothing: it is used again, and it means another process in another container.
The kernel knows better. A file's owner holds `flock` on it for life, and a read lease
(fcntl(2), F_SETLEASE) is never granted on a file that any process, in any container, has open or
mapped for writing.
"""

import errno
import fcntl
import hashlib
import os
import re
import signal
import time
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Self

_LEASES: Final = hasattr(fcntl, "F_SETLEASE")


class ProcessIdentity(NamedTuple):
    """A process that can't be mistaken for another one.

    `host_id` stands for this boot of this machine and this pid namespace: pids and start times
    are compared only where it is the same. `started` is in clock ticks since boot.
    """

    host_id: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> Self:
        """Describe the calling process."""
        pid = os.getpid()
        started = _start_ticks(pid)
        return cls(current_host_id(), pid, int(time.time()) if started is None else started)

    @classmethod
    def of(cls, pid: int) -> Self:
        """Describe a running process of this pid namespace; ProcessLookupError if there is none.

        Without /proc its start is not known, and zero.
        """
        if not Path("/proc/self/stat").exists():
            os.kill(pid, 0)
            return cls(current_host_id(), pid, 0)
        started = _start_ticks(pid)
        if started is None:
            raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended")
        return cls(current_host_id(), pid, started)

    def is_running(self, *, host_id: str) -> bool | None:
        """Return whether it lives, seen from `host_id`; None when that can't be told from there."""
        if self.host_id != host_id:
            return None
        started = _start_ticks(self.pid)
        if started is None and not Path("/proc/self/stat").exists():
            return _pid_exists(self.pid)
        return started == self.started

    def age_seconds(self) -> float:
        """Return how long ago it started: a process on this machine, since its last boot."""
        if not Path("/proc/self/stat").exists():
            return max(0.0, time.time() - self.started)
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        return max(0.0, uptime - self.started / os.sysconf("SC_CLK_TCK"))


def current_host_id() -> str:
    """Make a short name of this boot and this pid namespace."""
    try:
        boot, namespace = _boot_id(), str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:  # no Linux, or a /proc that hides it: the host's name has to do
        boot, namespace = os.uname().nodename, ""
    return _short(f"{boot} {namespace}")


@lru_cache(maxsize=1)  # a child has its parent's, and need not load the pages of OpenSSL
def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@lru_cache(maxsize=1)  # no process outlives it, and a scrape waits for the kernel to write it
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def user_of(pid: int) -> int | None:
    """Return the user that a process runs as, its effective one; None if that can't be seen."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^Uid:\t\d+\t(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else None


def has_writer(fd: int, *, owner: ProcessIdentity | None, host_id: str) -> bool | None:
    """Return whether a process still writes to the open file `fd`.

    `owner` is None for a file whose owner takes no lock (prometheus_client's own). For such a
    file the answer is None, unknown, where leases are not available.
    """
    if owner is not None and is_locked(fd):
        return True
    leased = _refuses_lease(fd)
    if leased is not None or owner is None:
        return leased
    # No leases here. A process that lost its lock, because a child of it closed every
    # descriptor, still counts as long as it can be seen to run.
    return owner.is_running(host_id=host_id) is True


def is_locked(fd: int, *, shared: bool = False) -> bool:
    """Return whether a process locks the open file or directory alone, or `shared`, with others."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    # Explicitly, not by closing: a child forked right now shares the lock and would keep it.
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _refuses_lease(fd: int) -> bool | None:
    if not _LEASES:
        return None
    try:
        # A process that opens the file while it is leased makes the kernel send a signal here, and
        # the default one, SIGIO, kills. SIGURG is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # EINVAL: a filesystem without leases; EACCES: another user's file.
        return True if error.errno == errno.EAGAIN else None
    return False


def _start_ticks(pid: int) -> int | None:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        stat = os.read(fd, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    state, *fields = stat[stat.rindex(b")") + 2 :].split(None, 20)  # the name before may be any
    return None if state in {b"Z", b"X"} else int(fields[18])


def _pid_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
