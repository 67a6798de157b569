"""The settings against what the system and Celery allow a process; pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from resource import RLIM_INFINITY

from bufpool_workers import memory
from bufpool_workers.diagnostics.finding import Finding, ok
from bufpool_workers.pool_stats import RAISE_MEMLOCK
from bufpool_workers.settings import Settings
from bufpool_workers.units import format_bytes


def check_recycling(settings: Settings, *, limit_bytes: int, used_bytes: int) -> Finding:
    """Check that the pools fit below worker_max_memory_per_child; 0 is no limit."""
    cap = sum(settings.max_bytes.values())
    if not limit_bytes:
        return ok("recycling", "worker_max_memory_per_child is not set")
    limit, used = format_bytes(limit_bytes), format_bytes(used_bytes)
    if cap + used_bytes > limit_bytes:
        return Finding(
            "warning",
            "recycling",
            f"bufpool_max_bytes allows {format_bytes(cap)} on top of the {used} that the worker "
            f"uses, above worker_max_memory_per_child, {limit}: children may be "
            "recycled again and again",
            "lower the one or raise the other",
        )
    return ok("recycling", f"{format_bytes(cap + used_bytes)} at most, {limit} allowed for a child")


def check_memory(
    settings: Settings, *, processes: int, limit: int | None, machine: int | None = None
) -> Finding:
    """Check that the pools of all processes fit into the cgroup's memory, and the machine's."""
    cap = processes * sum(settings.max_bytes.values())
    warm = processes * sum(
        size * count for levels in settings.warm.values() for size, count in levels.items()
    )
    number = f"{processes} process{'' if processes == 1 else 'es'}"
    bounds = [(limit, "the cgroup allows"), (machine, "this machine has")]
    known = [(nbytes, what) for nbytes, what in bounds if nbytes is not None]
    if not known:
        return ok(
            "memory",
            f"{number}: {format_bytes(warm)} warm, {format_bytes(cap)} at most; no "
            "cgroup limits their memory",
        )
    most, what = min(known)
    if warm > most:
        return Finding(
            "error",
            "memory",
            f"bufpool_warm takes {format_bytes(warm)} in {number}, {what} {format_bytes(most)}",
            "lower bufpool_warm or the number of processes (the worker's concurrency)",
        )
    each = f"{number}: {format_bytes(warm)} warm, {format_bytes(cap)} at most"
    if cap <= most:
        return ok("memory", f"{each}; {what} {format_bytes(most)}")
    return Finding(
        "warning",
        "memory",
        f"{each}, but {what} {format_bytes(most)}: the kernel may kill them",
        "lower bufpool_max_bytes, bufpool_warm or the worker's concurrency, or raise the limit",
    )


def check_budget(settings: Settings, *, alive_seconds: float) -> Finding:
    """Check that the warm-up ends before Celery gives a new child up."""
    budget = f"bufpool_warm_seconds, {settings.warm_seconds:g} s,"
    if settings.warm_seconds >= alive_seconds:
        return Finding(
            "warning",
            "warm_seconds",
            f"{budget} is not below worker_proc_alive_timeout, {alive_seconds:g} s: children that "
            "replace others may be killed before they are warm",
            "lower the one or raise the other",
        )
    return ok("warm_seconds", f"{budget} is below worker_proc_alive_timeout, {alive_seconds:g} s")


def check_locking(
    settings: Settings, *, level: str, soft_limit: int, may_lock_any: bool
) -> Iterator[Finding]:
    """Compare the level that warmed secure memory gets with the settings and the limits."""
    warm = memory.secure_warm_bytes(settings)
    most = settings.max_bytes["secure"] + settings.max_bytes["random"]
    if is_below(level, settings.secure_level):
        error = memory.level_error(
            "secure and random pool", nbytes=warm, level=settings.secure_level
        )
        yield Finding("error", "secure_level", *str(error).split("; ", 1))
    elif soft_limit != RLIM_INFINITY and most > soft_limit and not may_lock_any:
        yield Finding(
            "warning",
            "memlock",
            f"bufpool_max_bytes allows {format_bytes(most)} of secure and random memory and "
            f"bufpool_warm makes {format_bytes(warm)} at start, RLIMIT_MEMLOCK is "
            f"{format_bytes(soft_limit)}: what is beyond it can't be locked, and is counted as "
            "unlocked",
            f"lower the ones, or {RAISE_MEMLOCK}",
        )
    elif level == "plain":
        yield Finding(
            "warning",
            "secure_level",
            "this system locks no memory for the pools: secure and random buffers may be swapped, "
            "and are counted as unlocked",
        )
    else:
        is_free = may_lock_any or soft_limit == RLIM_INFINITY
        limit = "any amount" if is_free else format_bytes(soft_limit)
        yield ok(
            "memlock",
            f"secure memory at level {level}; {format_bytes(most)} at most, {limit} allowed",
        )


def is_below(level: str, demanded: str) -> bool:
    """Return True if a level is lower than the one that `bufpool_secure_level` demands."""
    return demanded != "any" and memory.LEVELS.index(level) < memory.LEVELS.index(demanded)


def level_when_warm(settings: Settings) -> str:
    """Return the level of protection that this process would get for what it warms."""
    return memory.reachable_level(max(memory.secure_warm_bytes(settings), 1))
