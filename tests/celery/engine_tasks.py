"""Tasks for the tests of the test engine itself."""

import psutil
from celery import Celery, current_app, shared_task
from celery.utils.log import get_task_logger

app = Celery("engine_tasks")


@shared_task
def child() -> list[float]:
    """This process's pid and start; in a container the pid alone comes back after a restart."""
    process = psutil.Process()
    return [process.pid, process.create_time()]


@shared_task
def wait_for_release(key: str) -> str:
    """Note that it runs, then run until the test releases it, in a container or not."""
    get_task_logger(__name__).warning("holding %s", key)
    return "released" if current_app.backend.client.blpop([key], timeout=30) else "forgotten"
