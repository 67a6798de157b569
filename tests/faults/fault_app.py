"""The app of the workers that are hit by faults; its tasks keep a truth of their own.

The truth is a file with a line for each task: its process, and the buffers that it took from each
of the three pools. One write appends a line, so none is lost or torn, whatever is killed.
"""

import json
import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_shutting_down

import bufpool_workers as bp
from bufpool_workers import KiB

app = Celery("fault_app", include=["neighbour_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)

from prometheus_client import Counter  # noqa: E402 (after setup, as it has to be)

JOBS = Counter("jobs", "Tasks that counted themselves with prometheus_client")
_kept = []


@worker_shutting_down.connect
def tell_of_shutdown(**_):
    if told := os.environ.get("TEST_SHUTTING_DOWN"):
        Path(told).touch()


def note(buffers):
    """Write down what this process has taken."""
    file = os.open(os.environ["TEST_TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{os.getpid()} {buffers}\n".encode())
    os.close(file)


def use(buffers):
    """Take so many buffers from each pool, one after the other."""
    for _ in range(buffers):
        with bp.buffer(4 * KiB) as regular, bp.secure_buffer(64) as secure, bp.random_buffer(32):
            regular[:64] = secure[:] = b"s" * 64


@app.task
def work(buffers):
    use(buffers)
    note(buffers)
    return os.getpid()


@app.task
def count_job():
    JOBS.inc()
    return work(1)


@app.task
def hold(gate, size=4 * KiB):
    """Hold a buffer of each pool, all pages touched, until the gate, a named pipe, is opened."""
    with bp.buffer(size) as regular, bp.secure_buffer(64), bp.random_buffer(32):
        regular[:] = b"h" * size
        note(1)
        Path(gate).read_bytes()
    return os.getpid()


@app.task
def first_look():
    """Return what a process finds before it has taken anything."""
    stats = bp.stats()
    found = {
        "pid": os.getpid(),
        "gets": stats.total.gets,
        "misses": stats.total.misses,
        "idle": {label: size.idle for label, size in stats.total.sizes.items() if size.idle},
    }
    work(1)
    return found | {"misses_after": bp.stats().total.misses}
