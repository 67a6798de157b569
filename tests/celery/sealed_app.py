"""The app of the workers that open sealed arguments, and of the tests that publish to them."""

import json
import os

from celery import Celery

import bufpool_workers as bp

app = Celery("sealed_app", include=["sealed_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
