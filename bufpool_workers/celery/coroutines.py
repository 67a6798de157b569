"""Tasks that are coroutine functions, which Celery calls and does not await."""

from __future__ import annotations

from collections.abc import Iterator

from celery import Celery

from bufpool_workers._wrapping import is_dressed
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.signatures import is_async


def check_coroutines(app: Celery) -> Iterator[Finding]:
    """Find tasks below one of our decorators that nothing awaits."""
    for name, task in sorted(app.tasks.items()):
        if is_dressed(task.run) and is_async(task.run):
            yield Finding(
                "error",
                "coroutines",
                f"task {name} is a coroutine function, which Celery does not await: its body "
                "never runs",
                "make it a plain function, or put a wrapper that awaits it between it and "
                "@app.task, such as asgiref's async_to_sync",
            )
