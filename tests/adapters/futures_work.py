"""What the processes of executors run."""

import os
import signal
from pathlib import Path

from prometheus_client import Counter

import bufpool_workers as bp
from bufpool_workers.futures import as_job, start_process

DONE = Counter("work_done", "Calls that were done.")
kept = []


@bp.pooled_buffer("1MiB")
def fill(number, *, buf):
    """Fill a buffer; return the process, and what the pools had."""
    buf[0:1] = bytes([number % 256])
    DONE.inc()
    return os.getpid(), bp.stats().regular.misses


def id_of(number):
    """Return the id of a call."""
    return f"fill {number}"


@as_job
def keep(number):
    """Take a buffer, and keep it."""
    kept.append(bp.buffer(4096))
    DONE.inc()
    return os.getpid(), number


def held(number):
    """Return whether the buffer that `keep` kept was taken back."""
    return [buffer.released for buffer in kept]


@bp.sealed("password")
def login(user, password):
    return user, bytes(password)


@bp.sealed_result
@bp.sealed("password")
def mint(password):
    return bytes(password)


def die(folder):
    """Count, and be killed."""
    with bp.buffer(4096):
        DONE.inc()
    Path(folder, str(os.getpid())).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def start_and_note(settings, folder):
    """Start the process, as an initializer; note that it was."""
    start_process(settings)
    Path(folder, f"{os.getpid()}").touch()
