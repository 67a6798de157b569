"""The figures that the project promises, each beside its reach."""

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np

import bufpool_workers as bp
from bufpool_workers import KiB, MiB
from bufpool_workers.settings import format_size
from bufpool_workers.worker import malloc

from .report import Table
from .timing import Case, measure

# the first bytes of all pages, written in one C call that allocates nothing
TOUCH = "frombuffer({}, uint8)[::4096] = 1"
PAIR = f"first = {{0}}; second = {{0}}; {TOUCH.format('first')}; {TOUCH.format('second')}"


def pools() -> Mapping[str, Any]:
    """The pools of this process, warm, and what statements do with them."""
    sizes = [4 * KiB, 64 * KiB, 256 * KiB, MiB, 4 * MiB, 16 * MiB]
    settings = {
        "bufpool_warm": {"regular": dict.fromkeys(sizes, 2)},
        "bufpool_max_bytes": {"regular": "256MiB"},
    }
    bp.memory.configure(lambda: bp.Settings.read(settings))
    bp.current_pools().warm()
    return {"regular": bp.current_pools().regular, "buffer": bp.buffer, **arrays()}


def arrays() -> Mapping[str, Any]:
    return {"frombuffer": np.frombuffer, "uint8": np.uint8}


def tuned_malloc() -> Mapping[str, Any]:
    malloc.tune()
    return arrays()


def one_buffer() -> Table:
    table = Table("one buffer at a time, untouched (a bytearray is zeroed, a buffer is not)")
    cases = [
        Case("acquire(4096).release()", "regular.acquire(4096).release()", pools),
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


def two_buffers() -> Table:
    table = Table("two of 1 MiB held together, every page touched")
    pair = "with buffer({0}) as first, buffer({0}) as second: {1}; {2}".format(
        MiB, TOUCH.format("first"), TOUCH.format("second")
    )
    plain = PAIR.format(f"bytearray({MiB})") + "; del first, second"
    cases = [
        Case("two buffers", pair, pools),
        Case("two bytearrays", plain, arrays),
        Case("two bytearrays after mallopt", plain, tuned_malloc),
    ]
    ours, rival, tuned = measure(cases)
    table.add(ours, rival, reach=1 / 150)
    table.add(ours, tuned, reach=1 / 5)
    return table


def warm_up() -> Table:
    table = Table("warm-up of 64 MiB, mapped, touched and unmapped")
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
    return [one_buffer(), two_buffers(), warm_up()]
