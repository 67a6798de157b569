"""The plain app, for neighbours that need nothing in it; others call `make_app` themselves."""

import json
import os

from celery import Celery

import bufpool_workers as bp


def make_app(name: str, *, include: tuple[str, ...] = ()) -> Celery:
    """Make a worker's app with the tasks of this folder."""
    app = Celery(name, include=["home_tasks", *include])
    app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
    bp.setup(app)
    return app


app = make_app("home")
