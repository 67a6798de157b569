"""The app of a worker whose metrics a test scrapes."""

import json
import os

if early := os.environ.get("TEST_IMPORT_EARLY"):
    import prometheus_client  # noqa: F401

    if early != "only":
        import early_metrics  # noqa: F401

from celery import Celery

import bufpool_workers as bp

app = Celery("metrics_app", include=["metric_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
