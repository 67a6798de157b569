"""The figures that the project promises of its regular pool, each beside its reach."""

import mmap

import numpy as np

import bufpool_workers as bp
from bufpool_workers import KiB, MiB
from bufpool_workers.settings import format_size
from tests.benchmarks.prepared import (
    Names,
    arrays,
    freed,
    pools,
    tuned_malloc,
    two_buffers,
    two_bytearrays,
)
from tests.benchmarks.report import Table
from tests.benchmarks.timing import Case, measure


def one_buffer() -> Table:
    table = Table("one", "one buffer at a time, untouched (a bytearray is zeroed, a buffer is not)")
    cases = [
        Case("acquire(4096).release()", "pool.acquire(4096).release()", pools),
        Case("bytearray(4096)", "bytearray(4096)"),
    ]
    ours, rival = measure(cases, rounds=51)
    table.add(ours, rival, reach=0.36)
    for nbytes, reach in ((4 * KiB, 0.9), (64 * KiB, 0.2), (MiB, 0.02)):
        cases = [
            Case(f"with buffer({format_size(nbytes)})", f"with buffer({nbytes}): pass", pools),
            Case(f"bytearray({format_size(nbytes)})", f"bytearray({nbytes})"),
        ]
        ours, rival = measure(cases)
        table.add(ours, rival, reach=reach)
    return table


def both() -> Table:
    table = Table("two", "two of 1 MiB held together, every page touched")
    cases = [
        Case("two buffers", two_buffers(MiB), pools),
        Case("two bytearrays", two_bytearrays(MiB), arrays),
        Case("two bytearrays after mallopt", two_bytearrays(MiB), tuned_malloc),
        Case("two bytearrays, one of 4MiB freed before", two_bytearrays(MiB), larger_freed),
    ]
    ours, rival, tuned, later = measure(cases)
    table.add(ours, rival, reach=1 / 150)
    table.add(ours, tuned, reach=1 / 5)
    table.add(ours, later)
    return table


def larger_freed() -> Names:
    return freed(4 * MiB)


def warm_up() -> Table:
    table = Table("warm_up", "warm-up of 64 MiB, mapped, touched and unmapped")
    cases = [
        Case("four buffers of 16 MiB", "warm()", lambda: {"warm": warm_and_close}),
        Case("pages of 4 KiB one by one", "touch()", lambda: {"touch": touch_small_pages}),
    ]
    ours, rival = measure(cases, rounds=11)
    table.add(ours, rival, reach=0.4)
    return table


def warm_and_close() -> None:
    settings = bp.Settings.read(
        {"bufpool_warm": {"regular": {"16MiB": 4}, "secure": {}, "random": {}}}
    )
    pools = bp.Pools(settings)
    if not pools.warm().complete:
        raise TimeoutError("the warm-up took longer than bufpool_warm_seconds")
    pools.close()


def touch_small_pages() -> None:
    with mmap.mmap(-1, 64 * MiB) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        np.frombuffer(memory, np.uint8)[::4096] = 1


def tables() -> list[Table]:
    return [one_buffer(), both(), warm_up()]
