"""The app of a worker whose tasks let views outlive their buffers."""

import json
import os

from celery import Celery

import bufpool_workers as bp

app = Celery("escaping_app", include=["escaping_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
