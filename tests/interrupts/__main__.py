"""Prints what interrupts do to pools: `python -m tests.interrupts [--interrupts 100000]`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.interrupts import in_dramatiq, in_python, in_worker, ours
from tests.interrupts.harness import Outcome, Pool, Storm
from tests.support.redis_server import RedisServer

_HEADS = ("interrupts", "bytecodes", "lost", "lent twice", "miscounted")
_RECORDED = ("interrupts", "lost", "doubled", "miscounted")
_SLOW = 10  # a whole task costs as much as fifty uses
_THREADED = 5


def main() -> int:
    """Storm over each pool, then over a worker; exit status 1 unless all of ours are clean."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--interrupts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, default=Path("build/interrupts.json"))
    arguments = parser.parse_args()
    rows, clean = [], True
    print(_line("", *_HEADS))
    for name, outcome, is_ours in _storms(arguments.interrupts, seed=arguments.seed):
        numbers = (outcome.interrupts, len(outcome.places) or "-", outcome.lost)
        print(_line(name, *numbers, outcome.doubled, outcome.miscounted), flush=True)
        rows.append({"name": name} | {key: getattr(outcome, key) for key in _RECORDED})
        clean = clean and (outcome.clean or not is_ours)
    arguments.record.parent.mkdir(parents=True, exist_ok=True)
    arguments.record.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if clean else 1


def _storms(interrupts: int, *, seed: int) -> Iterator[tuple[str, Outcome, bool]]:
    """Storm over each pool, and yield its name, the outcome, and whether it is ours."""
    for pool in (make() for make in in_python.POOLS):
        yield pool.name, Storm(pool, seed=seed).run(interrupts), False
    for pool, number in _ours(interrupts):
        yield pool.name, Storm(pool, seed=seed).run(number), True
    with RedisServer() as server, tempfile.TemporaryDirectory() as folder:
        broker = server.celery_url()
        limited = in_worker.storm(interrupts // 200, broker=broker, folder=Path(folder))
    yield "bufpool_workers: prefork worker, soft limits", limited, True
    with tempfile.TemporaryDirectory() as folder:
        threads = in_dramatiq.storm(interrupts // _THREADED, folder=Path(folder))
    yield "bufpool_workers: Dramatiq's time limits, 4 threads", threads, True


def _ours(interrupts: int) -> Iterator[tuple[Pool, int]]:
    for kind in ("regular", "secure", "random"):
        yield ours.With(kind), interrupts
    yield ours.Release(), interrupts
    yield ours.Views(), interrupts
    yield ours.Decorated(), interrupts
    yield ours.WholeTask(), interrupts // _SLOW


def _line(name: str, *cells: object) -> str:
    return f"{name:50}" + "".join(f"{cell!s:>13}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
