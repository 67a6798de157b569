"""The host: what its kernel and its file systems mean for pools, secrets and metrics."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from bufpool_workers import memory
from bufpool_workers.counters.directory import fault_of
from bufpool_workers.diagnostics.finding import Finding, ok, unseen
from bufpool_workers.diagnostics.limits import Process
from bufpool_workers.settings import Settings
from bufpool_workers.units import MiB, format_bytes

HUGE_PAGE_BYTES = 2 * MiB  # from here on the pools ask for huge pages
ROOM_BYTES = 16 * MiB  # some hundred processes' counter files
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
_SWAPS = Path("/proc/swaps")
_MOUNTS = Path("/proc/self/mounts")
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized


def check_memfd(settings: Settings, *, granted: bool) -> Finding:
    """Check for memory that not even root can read."""
    if granted:
        return ok("memfd_secret", "the kernel grants memfd_secret")
    return Finding(
        "error" if settings.secure_level == "memfd" else "note",
        "memfd_secret",
        "the kernel grants no memfd_secret: secure memory reaches level mlock at best",
        "use Linux 5.14 or later, before 6.5 with secretmem.enable=1 on the kernel's command line, "
        "and a seccomp profile that lets memfd_secret pass",
    )


def check_huge_pages(settings: Settings, *, text: str | None) -> Finding:
    """Check that large buffers get huge pages; `text` is .../transparent_hugepage/enabled."""
    chosen = re.search(r"\[(\w+)\]", text or "")
    large = [size for size in settings.size_classes if size >= HUGE_PAGE_BYTES]
    if text is None:
        return unseen("huge_pages", "whether large buffers get huge pages", _HUGE_PAGES)
    if chosen is None:
        return Finding("note", "huge_pages", "this kernel has no transparent huge pages")
    if chosen[1] == "never" and large:
        return Finding(
            "note",
            "huge_pages",
            "transparent huge pages are off: buffers of 2 MiB and more fault each 4 KiB page in, "
            "about five times as slowly",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    return ok("huge_pages", f"transparent huge pages: {chosen[1]}")


def check_cores(settings: Settings, *, core_bytes: int, pattern: str | None, level: str) -> Finding:
    """Check whether a crash writes secrets to a core file; see core(5)."""
    if pattern is None:
        return unseen("core_dumps", "where a crash writes cores, and whether", _CORE_PATTERN)
    piped = pattern.startswith("|")  # such a core is written whatever the limit
    if not core_bytes and not piped:
        return ok("core_dumps", "no core is written (RLIMIT_CORE is 0)")
    where = f"piped to {pattern[1:].split(maxsplit=1)[0]}" if piped and pattern[1:] else "to files"
    exposed = [
        what
        for what, is_there in (
            ("the private keys of sealed arguments", bool(settings.private_keys)),
            ("secure buffers, which are not locked", level == "plain"),
        )
        if is_there
    ]
    if not exposed:
        return ok("core_dumps", f"cores go {where}; secure buffers are not in them")
    return Finding(
        "warning",
        "core_dumps",
        f"cores go {where}, and would hold {' and '.join(exposed)}",
        "LimitCORE=0 in the systemd unit or ulimit -c 0"
        + ("; for the pipe also set its own store to none" if piped else ""),
    )


def check_swap(settings: Settings, *, text: str | None, level: str) -> Finding:
    """Check whether secrets may be swapped; `text` is /proc/swaps."""
    if text is None:
        return unseen("swap", "whether there is swap", _SWAPS)
    areas = [line.split()[0] for line in text.splitlines()[1:] if line.split()]
    if not areas:
        return ok("swap", "there is no swap")
    if level != "plain" and not settings.private_keys:
        return ok("swap", f"swap on {', '.join(areas)}; secure buffers never go there")
    what = "private keys" if level != "plain" else "secure buffers, which are not locked,"
    return Finding(
        "note" if level != "plain" else "warning",
        "swap",
        f"swap on {', '.join(areas)}: {what} may go there",
        "use encrypted swap, or MemorySwapMax=0 in the systemd unit",
    )


def check_clock(*, state: int | None) -> Finding:
    """Check that the clock, which decides on expiry, is kept right; `state` as in adjtimex(2)."""
    if state is None:
        return Finding("note", "clock", "this system does not tell whether its clock is right")
    if state == _TIME_ERROR:
        return Finding(
            "note",
            "clock",
            "no time service keeps the clock right, by what the kernel knows: sealed arguments "
            "expire early or late by its error",
            "run chrony or systemd-timesyncd on the host",
        )
    return ok("clock", "a time service keeps the clock right")


def check_directory(where: Path, *, mounts: str, holds_private: bool = False) -> Iterator[Finding]:
    """Check that processes can count there, and quickly; `mounts` is /proc/self/mounts.

    `holds_private`: each worker makes a directory of its own in it.
    """
    name = "metrics_directory"
    shown = f"private ones in {where}" if holds_private else str(where)
    if fault := fault_of(where):
        yield Finding("error", name, f"{shown}: {fault}", "create one, for the workers")
        return
    if not os.access(where, os.W_OK | os.X_OK):
        yield Finding(
            "error",
            name,
            f"{shown}: user {os.geteuid()} may not write there",
            "change its owner or mode, or run this as the workers' user",
        )
        return
    room = os.statvfs(where)
    free_bytes = room.f_bavail * room.f_frsize
    if free_bytes < ROOM_BYTES:
        yield Finding("error", name, f"{shown}: {format_bytes(free_bytes)} free", "make room")
    kind = filesystem(where, mounts=mounts)
    if kind is None:
        yield unseen(name, f"{shown}: which file system it is on", _MOUNTS)
    elif kind not in {"tmpfs", "ramfs"}:
        yield Finding(
            "warning",
            name,
            f"{shown}: on {kind}, whose writes reach a disk",
            "set PROMETHEUS_MULTIPROC_DIR to a directory on tmpfs, such as one in /run",
        )
    else:
        yield ok(name, f"{shown}: on {kind}, {format_bytes(free_bytes)} free")


def filesystem(path: Path, *, mounts: str) -> str | None:
    """Find the type of the file system that holds a path; `mounts` is /proc/self/mounts."""
    found: tuple[int, str] | None = None
    resolved = path.resolve()
    for line in mounts.splitlines():
        point, kind = line.split()[1:3]
        mounted = Path(point.encode().decode("unicode_escape"))  # a space is \040
        if resolved.is_relative_to(mounted) and (found is None or len(point) >= found[0]):
            found = len(point), kind
    return found[1] if found else None


def check_host(
    settings: Settings, *, process: Process, level: str, directory: Path, holds_private: bool
) -> Iterator[Finding]:
    """Check this host for the processes of a worker that has `process`'s limits.

    `directory` and `holds_private` as in `check_directory`.
    """
    yield check_memfd(settings, granted=memory.grants_memfd())
    if not sys.platform.startswith("linux"):
        yield Finding("note", "host", f"on {sys.platform} there is no /proc to look further")
        return
    yield check_huge_pages(settings, text=_read(_HUGE_PAGES))
    yield check_cores(
        settings,
        core_bytes=process.core_bytes,
        pattern=_read(_CORE_PATTERN),
        level=level,
    )
    yield check_swap(settings, text=_read(_SWAPS), level=level)
    if settings.private_keys:
        yield check_clock(state=clock_state())
    mounts = _read(_MOUNTS) or ""
    yield from check_directory(directory, mounts=mounts, holds_private=holds_private)


def clock_state() -> int | None:
    """Ask adjtimex(2), changing nothing; None where the system has no such call."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "adjtimex"):
        return None
    state = library.adjtimex(ctypes.create_string_buffer(512))  # a struct timex of zeros
    return None if state < 0 else int(state)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:  # a kernel without it, or a container that hides it
        return None
