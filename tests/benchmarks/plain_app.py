"""The app of a measured worker that knows nothing of the pools."""

import time

from celery import Celery, signals

from tests.benchmarks.app_parts import fill, hold, tell

app = Celery("plain_app")
app.conf.task_ignore_result = False


signals.worker_ready.connect(tell)


@app.task(name="echo")
def echo(number: int) -> int:
    return number


@app.task(name="arrays")
def arrays(nbytes: int) -> float:
    """Return the seconds that the body took."""
    began = time.perf_counter()
    fill(bytearray(nbytes), bytearray(nbytes))
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
