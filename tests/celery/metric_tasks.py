"""Tasks that count, in pools and in metrics of the user's own, and die."""

import os
import signal

from celery import shared_task
from prometheus_client import Counter

import bufpool_workers as bp
from bufpool_workers.memory import secure_locked_bytes

JOBS = Counter("jobs", "Jobs done")
KEPT: list[memoryview] = []


@shared_task
def work(buffers: int) -> int:
    JOBS.inc()
    for _ in range(buffers):
        with bp.buffer(4096) as buf:
            buf[0] = 1
    return os.getpid()


@shared_task
def keep_view() -> None:
    with bp.buffer(4096) as buf:
        KEPT.append(buf[:1])


@shared_task
def hold_secret(nbytes: int) -> int:
    """Use secure memory; the bytes that this process has locked then, and keeps."""
    with bp.secure_buffer(nbytes):
        return secure_locked_bytes()


@shared_task(acks_late=True)
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
def widen(series: int) -> None:
    """Make an answer to a scrape that is larger than what sockets buffer."""
    wide = Counter("wide", "A wide metric", ["text"])
    for number in range(series):
        wide.labels(f"{number:04}" * 250).inc()


@shared_task
def count_early() -> None:
    """Count in the metrics that were made before `setup`."""
    import early_metrics as early  # noqa: PLC0415 - only where the app has them

    early.EARLY.inc(10)
    early.CHILD.inc(10)
    early.HISTOGRAM.observe(10)
    early.SUMMARY.observe(10)
