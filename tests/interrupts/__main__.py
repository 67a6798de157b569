"""Prints what interrupts do to pools: `python -m tests.interrupts [--interrupts 100000]`."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.interrupts import in_dramatiq, in_python, in_worker, ours
from tests.interrupts.harness import Outcome, Pool, Storm
from tests.support.redis_server import RedisServer

_HEADS = ("interrupts", "bytecodes", "lost", "lent twice", "miscounted")
_SLOW = 10  # a whole task costs as much as fifty uses
_THREADED = 5


def main() -> int:
    """Storm over each pool, then over a worker; exit status 1 unless all of ours are clean."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--interrupts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(_line("", *_HEADS))
    for pool in (make() for make in in_python.POOLS):
        print(_row(pool.name, Storm(pool, seed=arguments.seed).run(arguments.interrupts)))
    outcomes = []
    for pool, interrupts in _ours(arguments.interrupts):
        outcomes.append(Storm(pool, seed=arguments.seed).run(interrupts))
        print(_row(pool.name, outcomes[-1]), flush=True)
    with RedisServer() as server, tempfile.TemporaryDirectory() as folder:
        broker = server.celery_url()
        limited = in_worker.storm(arguments.interrupts // 200, broker=broker, folder=Path(folder))
    print(_row("bufpool_workers: prefork worker, soft limits", limited))
    with tempfile.TemporaryDirectory() as folder:
        threads = in_dramatiq.storm(arguments.interrupts // _THREADED, folder=Path(folder))
    print(_row("bufpool_workers: Dramatiq's time limits, 4 threads", threads))
    return 0 if all(outcome.clean for outcome in (*outcomes, limited, threads)) else 1


def _ours(interrupts: int) -> Iterator[tuple[Pool, int]]:
    for kind in ("regular", "secure", "random"):
        yield ours.With(kind), interrupts
    yield ours.Release(), interrupts
    yield ours.Views(), interrupts
    yield ours.Decorated(), interrupts
    yield ours.WholeTask(), interrupts // _SLOW


def _row(name: str, outcome: Outcome) -> str:
    numbers = (outcome.interrupts, len(outcome.places) or "-", outcome.lost)
    return _line(name, *numbers, outcome.doubled, outcome.miscounted)


def _line(name: str, *cells: object) -> str:
    return f"{name:50}" + "".join(f"{cell!s:>13}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
