"""The same tasks with the plugin: buffers from warm pools, counted in files that are scraped."""

import time

from celery import Celery, signals

import bufpool_workers as bp
from tests.benchmarks.app_parts import fill, hold, tell

app = Celery("pooled_app")
app.conf.task_ignore_result = False
app.conf.bufpool_warm = {"regular": {"4KiB": 8, "1MiB": 4}}
bp.setup(app)
signals.worker_ready.connect(tell)


@app.task(name="echo")
def echo(number: int) -> int:
    return number


@app.task(name="echo_again")
def echo_again(number: int) -> int:
    return number


@app.task(name="echo_pooled")
@bp.pooled_buffer(4096)
def echo_pooled(number: int, *, buf: bp.Buffer) -> int:
    return number


@app.task(name="arrays")
def arrays(nbytes: int) -> float:
    """Return the seconds that the body took."""
    began = time.perf_counter()
    with bp.buffer(nbytes) as first, bp.buffer(nbytes) as second:
        fill(first, second)
    return time.perf_counter() - began


@app.task(name="arrays_held")
def arrays_held(nbytes: int, folder: str) -> float:
    """The same; the child takes no second task until the gate opens."""
    seconds = arrays(nbytes)
    hold(folder)
    return seconds


@app.task(name="busy")
def busy(folder: str) -> None:
    hold(folder)
