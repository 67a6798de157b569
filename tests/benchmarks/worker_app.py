"""The app of the measured workers; with BENCHMARK_PLUGIN=0 it knows nothing of the pools."""

import os
import time

import numpy as np
from celery import Celery, signals

import bufpool_workers as bp

app = Celery("worker_app")
app.conf.task_ignore_result = False
if os.environ.get("BENCHMARK_PLUGIN", "1") == "1":
    app.conf.bufpool_warm = {"regular": {"4KiB": 8, "1MiB": 4, "8MiB": 2}}
    app.conf.bufpool_size_classes = ["4KiB", "1MiB", "8MiB"]
    bp.setup(app)
else:
    bp.memory.configure(bp.Settings)


@signals.worker_ready.connect
def tell(**_: object) -> None:
    """Say what Celery's own log says, which the measured workers don't write."""
    print("the worker is ready.", flush=True)


@app.task
def plain(number: int) -> int:
    return number


@app.task
def plain_again(number: int) -> int:
    return number


@app.task
@bp.pooled_buffer(4096)
def decorated(number: int, *, buf: bp.Buffer) -> int:
    return number


def pipeline(first: object, second: object) -> float:
    """Fill one, scale into the other: two arrays alive at once, as in most numpy tasks."""
    source = np.frombuffer(first, np.float32)
    target = np.frombuffer(second, np.float32)
    source[:] = 2
    np.multiply(source, 3, out=target)
    return float(target[-1])


@app.task
def arrays_plain(nbytes: int) -> float:
    """The seconds that the body took."""
    began = time.perf_counter()
    pipeline(bytearray(nbytes), bytearray(nbytes))
    return time.perf_counter() - began


@app.task
def arrays_pooled(nbytes: int) -> float:
    began = time.perf_counter()
    with bp.buffer(nbytes) as first, bp.buffer(nbytes) as second:
        pipeline(first, second)
    return time.perf_counter() - began
