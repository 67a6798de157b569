"""A taskiq broker with a task that counts."""

import os

from prometheus_client import Counter
from taskiq_redis import ListQueueBroker

import bufpool_workers as bp

bp.configure()
broker = ListQueueBroker(os.environ["TEST_BROKER_URL"])
DONE = Counter("taskiq_done", "Tasks that were done.")


@broker.task
@bp.pooled_buffer("4KiB")
async def work(number: int, *, buf: bp.Buffer) -> None:
    """Use a buffer, and count."""
    buf[0:1] = bytes([number])
    DONE.inc()
