"""What `bufpool_tune_malloc` does, and what it doesn't, beside the pools."""

import resource
import threading
from collections.abc import Callable

from bufpool_workers import KiB, MiB
from bufpool_workers.settings import format_size
from tests.benchmarks.prepared import (
    Names,
    arrays,
    pools,
    tuned_malloc,
    two_buffers,
    two_bytearrays,
)
from tests.benchmarks.report import Row, Table
from tests.benchmarks.timing import Case, in_process, measure

SIZES = (256 * KiB, MiB, 8 * MiB, 32 * MiB, 64 * MiB)
ROUNDS = 21
PAIRS = 20


def held_together() -> Table:
    """Measure where it takes the page faults away, and up to which size."""
    table = Table("tune_malloc", "bufpool_tune_malloc: two blocks held together, all pages touched")
    for nbytes in SIZES:
        size = format_size(nbytes)
        plain = Case("bytearrays", two_bytearrays(nbytes), arrays)
        tuned = Case("bytearrays after mallopt", two_bytearrays(nbytes), tuned_malloc)
        ours = Case("buffers", two_buffers(nbytes), lambda n=nbytes: pools(sizes=(n,)))
        pooled, after, before = measure([ours, tuned, plain], rounds=ROUNDS)
        table.add(after, before, what=f"bytearrays after mallopt, {size}", at=nbytes)
        table.add(pooled, after, what=f"buffers, {size}", at=nbytes)
    return table


def elsewhere() -> Table:
    """Measure what the pools can't reach: memory that other code allocates; other threads."""
    table = Table("tune_malloc_elsewhere", "bufpool_tune_malloc: in all that the process does")
    work = f"a = empty({MiB}, uint8); a[::4096] = 1; b = a + a; del a, b"
    for what, statement, prepare in (
        ("numpy's temporary arrays, 1MiB", work, lambda names: names),
        ("the same in another thread", "run()", lambda names: {"run": in_thread(work, names)}),
    ):
        after, before = measure(
            [
                Case("after mallopt", statement, lambda p=prepare: p(tuned_malloc())),
                Case("before", statement, lambda p=prepare: p(arrays())),
            ],
            rounds=ROUNDS,
        )
        table.add(after, before, what=what)
    return table


def in_thread(statement: str, names: Names) -> Callable[[], None]:
    """A function that runs the statement a hundred times in a new thread."""
    code = compile(f"for _ in range(100):\n {statement}", "work", "exec")

    def run() -> None:
        thread = threading.Thread(target=exec, args=(code, dict(names)))
        thread.start()
        thread.join()

    return run


def page_faults() -> Table:
    """Counted, so the same on any machine: of the first pair in a process, and of later ones."""
    table = Table("page_faults", "page faults of two blocks of 1 MiB, all pages touched")
    styles = {
        "buffers": (two_buffers(MiB), lambda: pools(sizes=(MiB,))),
        "bytearrays after mallopt": (two_bytearrays(MiB), tuned_malloc),
        "bytearrays": (two_bytearrays(MiB), arrays),
    }
    counted = {
        style: in_process(lambda s=statement, p=prepare: count_faults(s, p()))
        for style, (statement, prepare) in styles.items()
    }
    rival = "bytearrays"
    for style in styles:
        if style == rival:
            continue
        for when, index in (("the first in a process", 0), ("later ones", 1)):
            mine, theirs = counted[style][index], counted[rival][index]
            ratio = mine / theirs
            what = f"{style}, {when}"
            row = Row(what, rival, mine, theirs, ratio, ratio, ratio, unit="page faults")
            table.rows.append(row)
    return table


def count_faults(statement: str, names: Names) -> tuple[float, float]:
    """Page faults of the first run of a statement here, and of each of the later ones."""
    code, names = compile(statement, "pair", "exec"), dict(names)
    counts = []
    for runs in (1, PAIRS):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(runs):
            exec(code, names)  # noqa: S102 - as timeit does with the statements of cases
        counts.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / runs)
    return counts[0], counts[1]


def tables() -> list[Table]:
    return [held_together(), elsewhere(), page_faults()]
