"""An app that was never set up, and tasks that need it."""

from celery import Celery

import bufpool_workers as bp

app = Celery("unset_app")


@app.task
@bp.pooled_buffer("4KiB")
def fill(*, buf: bp.Buffer) -> int:
    return len(buf)


@app.task
def plain() -> int:
    return bp.stats().total.gets
