"""The system's limits of a process, read from its /proc; see proc(5)."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Self

from bufpool_workers._record import record_class

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_CAP_IPC_LOCK = 14  # linux/capability.h: its holders may lock any amount
_UNLIMITED_BYTES = 1 << 60  # version 1 writes the largest number of pages instead of a word


@record_class(frozen=True, kw_only=True, slots=True)
class Process:
    """The limits of a process; `memory_limit_bytes` is its cgroup's, None for no limit.

    Resource limits are soft ones, RLIM_INFINITY for no limit.
    """

    pid: int
    arguments: tuple[str, ...] = ()
    memlock_bytes: int = resource.RLIM_INFINITY
    core_bytes: int = resource.RLIM_INFINITY
    may_lock_any: bool = False
    memory_limit_bytes: int | None = None

    @classmethod
    def of(cls, pid: int | None = None) -> Self:
        """Read those of a process of this host, by default of this one.

        Where there is no /proc only this process's resource limits are known. Raises OSError when
        another process has ended, or is another user's.
        """
        if pid is None and not (_PROC / "self" / "status").exists():
            return cls(
                pid=os.getpid(),
                memlock_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
                core_bytes=resource.getrlimit(resource.RLIMIT_CORE)[0],
            )
        where = _PROC / str(pid or "self")
        limits = parse_limits((where / "limits").read_text(encoding="ascii"))
        arguments = (where / "cmdline").read_bytes().split(b"\0")[:-1]
        return cls(
            pid=pid or os.getpid(),
            arguments=tuple(argument.decode(errors="replace") for argument in arguments),
            memlock_bytes=limits["Max locked memory"],
            core_bytes=limits["Max core file size"],
            may_lock_any=has_ipc_lock((where / "status").read_text(encoding="utf-8")),
            memory_limit_bytes=memory_limit((where / "cgroup").read_text(encoding="utf-8")),
        )


def machine_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """Return the most memory that this process has had in use so far; see getrusage(2)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def parse_limits(text: str) -> dict[str, int]:
    """Read the soft limits of /proc/PID/limits by their names."""
    head, *lines = text.splitlines()
    at = head.index("Soft Limit")
    limits = {}
    for line in lines:
        soft = line[at:].split()[0]
        limits[line[:at].rstrip()] = resource.RLIM_INFINITY if soft == "unlimited" else int(soft)
    return limits


def has_ipc_lock(text: str) -> bool:
    """Return True if /proc/PID/status shows a process that may lock any amount of memory."""
    effective = next(line for line in text.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_IPC_LOCK & 1)


def memory_limit(text: str, *, root: Path = _CGROUPS) -> int | None:
    """Find the lowest memory limit above what /proc/PID/cgroup names; None for no limit.

    Both versions of cgroups are understood, see cgroups(7). In a container, whose own groups stand
    at the root, paths of the host's are not there: the root's limit counts then.
    """
    limits = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder == root.parent:
                break
            limits += _limit(folder / name)
    return min((limit for limit in limits if limit < _UNLIMITED_BYTES), default=None)


def _limit(path: Path) -> list[int]:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return []
    return [] if text == "max" else [int(text)]
