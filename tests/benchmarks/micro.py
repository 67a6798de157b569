"""One buffer taken and given back, for each size and against everything that people use instead."""

import functools
import mmap
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import bufpool_workers as bp
from bufpool_workers import KiB, MiB
from bufpool_workers.settings import format_size
from tests.benchmarks.prepared import Names, arrays, pools, touched_buffer, tuned_malloc
from tests.benchmarks.report import Table
from tests.benchmarks.rivals import CountedPool, ListPool, filled_queue
from tests.benchmarks.timing import Case, measure

SIZES = (64, 4 * KiB, 64 * KiB, MiB, 16 * MiB)
ROUNDS = 25
THREADS = (1, 2, 4)
TURNS = 1000


def _rivals(n: int) -> list[Case]:
    return [
        Case("bytearray", f"bytearray({n})"),
        Case("bytearray after mallopt", f"bytearray({n})", tuned_malloc),
        Case("mmap", f"mmap(-1, {n}).close()", lambda: {"mmap": mmap.mmap}),
        Case("list pool", "b = p.get(); p.put(b)", lambda: {"p": ListPool(n)}),
        Case("LifoQueue", "b = q.get(); q.put(b)", lambda: {"q": filled_queue(n)}),
        Case("@contextmanager pool", "with p.lend(): pass", lambda: {"p": ListPool(n)}),
        Case("pool with lock, counters", "with p.lend(): pass", lambda: {"p": CountedPool(n)}),
        Case("pyarrow's pool", f"allocate_buffer({n})", _pyarrow),
    ]


def _pyarrow() -> Names:
    # starts threads: in the case's own process only
    import pyarrow as pa  # noqa: PLC0415

    return {"allocate_buffer": pa.allocate_buffer}


def by_size(n: int) -> Table:
    size = format_size(n)
    table = Table("lending", f"with buffer({size}) against what else there is")
    ours, *rivals = measure(
        [Case(f"with buffer({size})", f"with buffer({n}): pass", pools), *_rivals(n)],
        rounds=ROUNDS,
    )
    for rival in rivals:
        table.add(ours, rival, at=n)
    return table


def touched() -> Table:
    """Beside memory that is not zeroed either, and mapped at the first touch."""
    table = Table("touched", "one buffer, every page touched, against an array of numpy's")
    for n in SIZES:
        ours, rival = measure(
            [
                Case(f"with buffer({format_size(n)})", touched_buffer(n), pools),
                Case("numpy.empty", f"empty({n}, uint8)[::4096] = 1", arrays),
            ],
            rounds=ROUNDS,
        )
        table.add(ours, rival)
    return table


def ways() -> Table:
    """The ways to take a regular buffer, 4 KiB."""
    table = Table("ways", "three ways to take 4 KiB")
    plain, *ours = measure(
        [
            Case("bytearray(4096)", "bytearray(4096)"),
            Case("acquire, release", "pool.acquire(4096).release()", pools),
            Case("with", "with buffer(4096): pass", pools),
            Case("@pooled_buffer", "function()", _decorated),
        ],
        rounds=ROUNDS,
    )
    for timing in ours:
        table.add(timing, plain)
    return table


def _decorated() -> Names:
    @bp.pooled_buffer(4096)
    def function(*, buf: bp.Buffer) -> None: ...

    return {**pools(), "function": function}


def threads() -> Table:
    table = Table("threads", f"threads at once, {TURNS} times 4 KiB in each, on the clock")
    works = {
        "with buffer": lambda: _lending(functools.partial(pools()["buffer"], 4096)),
        "bytearray": lambda: _repeat(lambda: bytearray(4096)),
        "@contextmanager pool": lambda: _lending(ListPool(4096).lend),
        "pool with lock, counters": lambda: _lending(CountedPool(4096).lend),
    }
    for count in THREADS:
        ours, *rivals = measure(
            [
                Case(
                    name,
                    "run()",
                    lambda make=make, count=count: {"run": _in_threads(make(), count)},
                    time.perf_counter,
                )
                for name, make in works.items()
            ],
            rounds=ROUNDS,
        )
        for rival in rivals:
            table.add(ours, rival, what=f"with buffer, threads: {count}")
    return table


def _in_threads(work: Callable[[], None], count: int) -> Callable[[], None]:
    def run() -> None:
        workers = [threading.Thread(target=work) for _ in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return run


def _lending(lend: Callable[[], AbstractContextManager[object]]) -> Callable[[], None]:
    def work() -> None:
        for _ in range(TURNS):
            with lend():
                pass

    return work


def _repeat(make: Callable[[], object]) -> Callable[[], None]:
    def work() -> None:
        for _ in range(TURNS):
            make()

    return work


def tables() -> list[Table]:
    return [ways(), *map(by_size, SIZES), touched(), threads()]
