"""An app with a schedule, as Celery's own scheduler keeps it in a file."""

import json
import os

from celery import Celery

import bufpool_workers as bp

app = Celery("beat_app")
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)


@app.task(name="beat_app.login")
@bp.sealed("password")
def login(user, password):
    return user, len(password)


if "TEST_FINALIZE" in os.environ:
    assert app.tasks
