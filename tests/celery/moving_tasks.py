"""Tasks that move what a worker stands on: its directory, its environment, its tasks."""

import os
from pathlib import Path

from celery import shared_task

import bufpool_workers as bp


@shared_task
def move(directory: str) -> str:
    """Go elsewhere, and name another metrics directory, as other libraries do."""
    os.chdir(directory)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    with bp.buffer(4096), bp.secure_buffer(100):
        return str(Path.cwd())


@shared_task
def work() -> int:
    with bp.buffer(4096):
        return os.getpid()
