"""The app of a worker whose tasks misuse their buffers."""

import json
import os

from celery import Celery

import bufpool_workers as bp

app = Celery("misused_app", include=["misused_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
