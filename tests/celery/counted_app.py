"""The app of a worker whose tasks note what they were lent."""

import json
import os

from celery import Celery

import bufpool_workers as bp

app = Celery("counted_app", include=["counted_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
