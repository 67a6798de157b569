"""Tasks for the tests of the test engine itself."""

import os

from celery import Celery, current_app, shared_task
from celery.utils.log import get_task_logger

app = Celery("engine_tasks")


@shared_task
def child_pid() -> int:
    return os.getpid()


@shared_task
def wait_for_release(key: str) -> str:
    """Say that it runs, then run until the test releases it, in a container or not."""
    get_task_logger(__name__).warning("holding %s", key)
    return "released" if current_app.backend.client.blpop([key], timeout=30) else "forgotten"
