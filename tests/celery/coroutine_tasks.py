"""A task that Celery can't run: a coroutine function below our decorator."""

from celery import shared_task

import bufpool_workers as bp


@shared_task
@bp.pooled_buffer("4KiB")
async def fetch(url: str, *, buf: bp.Buffer) -> None:
    """Never runs."""
