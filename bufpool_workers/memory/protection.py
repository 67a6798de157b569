"""The error of secure memory that is not available at the demanded level, and its bounds."""

from __future__ import annotations

import resource

from bufpool_workers.errors import SecureLevelUnmet
from bufpool_workers.memory import _mapping
from bufpool_workers.pool_stats import RAISE_MEMLOCK
from bufpool_workers.settings import Settings

_OVERHEAD_BYTES = 64  # a slot's canary, and what aligns the next slot


def level_error(what: str, *, nbytes: int, level: str) -> SecureLevelUnmet:
    """Return the error that says why `nbytes` are not available at `level`, and what to set."""
    asked = f"{what}: {nbytes} bytes are not available at level {level} (bufpool_secure_level): "
    if level == "memfd" and not _mapping.grants_memfd():
        return SecureLevelUnmet(
            asked + "the kernel grants no memfd_secret; it needs Linux 5.14 or later, before 6.5 "
            "also secretmem.enable=1 on the kernel's command line, and a container whose seccomp "
            "profile allows it (with Docker --security-opt seccomp=FILE); or set "
            "bufpool_secure_level to mlock or any"
        )
    return SecureLevelUnmet(
        asked + f"RLIMIT_MEMLOCK is {lock_limit()} and {_mapping.secure_locked_bytes()} bytes are "
        f"locked here already; {RAISE_MEMLOCK}, or lower bufpool_warm"
    )


def lock_limit() -> str:
    """Return how much this process may lock, RLIMIT_MEMLOCK, as text."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "unlimited" if soft == resource.RLIM_INFINITY else f"{soft} bytes"


def secure_warm_bytes(settings: Settings) -> int:
    """Return the least that warming the secure and random pools of `settings` locks, in bytes."""
    page = resource.getpagesize()
    slabs = [
        -(-count * (size + _OVERHEAD_BYTES) // page) * page
        for kind in ("secure", "random")
        for size, count in settings.warm[kind].items()
    ]
    block = page if settings.warm["random"] else 0  # of keystream, where it is smallest
    return sum(slabs) + block
