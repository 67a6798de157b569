"""The app of a worker whose metrics a test scrapes."""

import json
import os

if "TEST_IMPORT_EARLY" in os.environ:
    from prometheus_client import Counter

    EARLY = Counter("early", "made before setup")

from celery import Celery

import bufpool_workers as bp

app = Celery("metrics_app", include=["metric_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
