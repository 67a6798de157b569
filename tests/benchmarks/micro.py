"""One buffer taken and given back, for each size and against everything that people use instead."""

import mmap
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import bufpool_workers as bp
from bufpool_workers import KiB, MiB
from bufpool_workers.settings import format_size

from .report import Table
from .rivals import CountedPool, ListPool, filled_queue, libsodium
from .targets import arrays, pools, tuned_malloc
from .timing import Case, measure

SIZES = (64, 4 * KiB, 64 * KiB, MiB, 16 * MiB)
ROUNDS = 15
KIND_SIZES = (64, 4 * KiB, 64 * KiB)
THREADS = 2


def _rivals(n: int) -> list[Case]:
    return [
        Case("bytearray", f"bytearray({n})"),
        Case("bytearray after mallopt", f"bytearray({n})", tuned_malloc),
        Case("mmap", f"mmap(-1, {n}).close()", lambda: {"mmap": mmap.mmap}),
        Case("numpy.empty, touched", f"empty({n}, uint8)[::4096] = 1", _numpy),
        Case("list pool", "b = p.get(); p.put(b)", lambda: {"p": ListPool(n)}),
        Case("LifoQueue", "b = q.get(); q.put(b)", lambda: {"q": filled_queue(n)}),
        Case("@contextmanager pool", "with p.lend(): pass", lambda: {"p": ListPool(n)}),
        Case("pool with lock, counters", "with p.lend(): pass", lambda: {"p": CountedPool(n)}),
        Case("pyarrow's pool", f"allocate_buffer({n})", _pyarrow),
    ]


def _numpy() -> Mapping[str, Any]:
    import numpy as np  # noqa: PLC0415 - as pyarrow

    return {**arrays(), "empty": np.empty}


def _pyarrow() -> Mapping[str, Any]:
    # starts threads: in the case's own process only
    import pyarrow as pa  # noqa: PLC0415

    return {"allocate_buffer": pa.allocate_buffer}


def by_size(n: int) -> Table:
    size = format_size(n)
    table = Table(f"with buffer({size}) against what else there is")
    ours, *rivals = measure(
        [Case(f"with buffer({size})", f"with buffer({n}): pass", pools), *_rivals(n)],
        rounds=ROUNDS,
    )
    for rival in rivals:
        table.add(ours, rival)
    return table


def ways() -> Table:
    """The ways to take a regular buffer, 4 KiB."""
    table = Table("three ways to take 4 KiB")
    plain, *ours = measure(
        [
            Case("bytearray(4096)", "bytearray(4096)"),
            Case("acquire, release", "regular.acquire(4096).release()", pools),
            Case("with", "with buffer(4096): pass", pools),
            Case("@pooled_buffer", "function()", _decorated),
        ],
        rounds=ROUNDS,
    )
    for timing in ours:
        table.add(timing, plain)
    return table


def _decorated() -> Mapping[str, Any]:
    @bp.pooled_buffer(4096)
    def function(*, buf: bp.Buffer) -> None: ...

    return {**pools(), "function": function}


def kinds() -> Table:
    """Secure and random buffers, whose work grows with the size."""
    table = Table("secure and random buffers")
    sodium = libsodium()
    for n in KIND_SIZES:
        size = format_size(n)
        cases = [
            Case(f"secure_buffer({size})", f"with secure({n}): pass", _kinds),
            Case(f"random_buffer({size})", f"with random({n}): pass", _kinds),
            Case(f"bytearray({size})", f"bytearray({n})"),
            Case(f"os.urandom({size})", f"urandom({n})", lambda: {"urandom": os.urandom}),
        ]
        if sodium is not None:
            statement = f"free(malloc({n}))"
            names = {"malloc": sodium.sodium_malloc, "free": sodium.sodium_free}
            cases.append(Case(f"sodium_malloc({size})", statement, lambda names=names: names))
        secure, random, plain, urandom, *rest = measure(cases, rounds=ROUNDS)
        table.add(secure, plain)
        for rival in rest:
            table.add(secure, rival)
        table.add(random, urandom)
    if sodium is None:
        table.notes.append("libsodium is not installed here: sodium_malloc was not measured")
    return table


def _kinds() -> Mapping[str, Any]:
    bp.memory.configure(
        lambda: bp.Settings.read(
            {
                "bufpool_warm": {
                    kind: dict.fromkeys((4 * KiB, 64 * KiB), 2) for kind in ("secure", "random")
                }
            }
        )
    )
    bp.current_pools().warm()
    return {"secure": bp.secure_buffer, "random": bp.random_buffer}


def threads() -> Table:
    table = Table(f"{THREADS} threads at once, 1000 times 4 KiB each")
    statement = "run(work)"
    ours, rival = measure(
        [
            Case("with buffer", statement, _lending_threads, time.perf_counter),
            Case("bytearray", statement, lambda: _in_threads(_bytearrays), time.perf_counter),
        ],
        rounds=ROUNDS,
    )
    table.add(ours, rival)
    return table


def _in_threads(work: Callable[[], None]) -> Mapping[str, Any]:
    def run(work: Callable[[], None]) -> None:
        workers = [threading.Thread(target=work) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return {"run": run, "work": work}


def _lending_threads() -> Mapping[str, Any]:
    lend = pools()["buffer"]

    def work() -> None:
        for _ in range(1000):
            with lend(4096):
                pass

    return _in_threads(work)


def _bytearrays() -> None:
    for _ in range(1000):
        bytearray(4096)


def tables() -> list[Table]:
    return [ways(), *map(by_size, SIZES), kinds(), threads()]
