"""A user's program with an executor, whose jobs time their own bodies; prints their seconds.

`python -m tests.benchmarks.executor_jobs fill_buffers 1048576 100 0`: a function, its argument, a
number of jobs, and the size of a block that the executor's process frees before. Each run is a new
program with a new process: its malloc knows nothing of what another one freed.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import Any

import numpy as np

import bufpool_workers as bp
from bufpool_workers.futures import start_process

_SETTINGS = {"warm": {"regular": {"1MiB": 2, "4MiB": 2}}}
_FIRST = 10  # not counted: they load code


def fill_bytearrays(nbytes: int) -> None:
    _fill(bytearray(nbytes), bytearray(nbytes))


@bp.pooled_buffer(lambda nbytes: nbytes, name="first")
@bp.pooled_buffer(lambda nbytes: nbytes, name="second")
def fill_buffers(nbytes: int, *, first: bp.Buffer, second: bp.Buffer) -> None:
    _fill(first, second)


def _fill(first: Any, second: Any) -> None:
    np.frombuffer(first, dtype=np.uint8)[:] = 1
    np.frombuffer(second, dtype=np.uint8)[:] = 2


def scale_arrays(nbytes: int) -> None:
    """Scale a numpy array into another, both of the job's own."""
    np.multiply(np.ones(nbytes // 8), 2.0, out=np.empty(nbytes // 8))


@bp.pooled_buffer(lambda nbytes: nbytes, name="first")
@bp.pooled_buffer(lambda nbytes: nbytes, name="second")
def scale_buffers(nbytes: int, *, first: bp.Buffer, second: bp.Buffer) -> None:
    ones = np.frombuffer(first, dtype=np.float64)
    ones[:] = 1.0
    np.multiply(ones, 2.0, out=np.frombuffer(second, dtype=np.float64))


def begin(freed: int) -> None:
    """Begin a process that has freed a block of so many bytes."""
    bytearray(freed)


def begin_pooled(freed: int) -> None:
    """Begin such a process, with warm pools."""
    begin(freed)
    start_process(_SETTINGS)


def timed(body: Callable[[int], None], nbytes: int) -> float:
    """Run a body; return the seconds that it took."""
    began = time.thread_time_ns()
    body(nbytes)
    return (time.thread_time_ns() - began) / 1e9


def main() -> None:
    name = sys.argv[1]
    nbytes, jobs, freed = (int(each) for each in sys.argv[2:])
    start = begin_pooled if name.endswith("_buffers") else begin
    with ProcessPoolExecutor(1, get_context("spawn"), start, (freed,)) as executor:
        bodies, sizes = repeat(globals()[name], _FIRST + jobs), repeat(nbytes)
        times = list(executor.map(timed, bodies, sizes))
    print(json.dumps(times[_FIRST:]))


if __name__ == "__main__":
    main()
