"""A Celery app with the settings of the test that starts it."""

import json
import os

from celery import Celery

import bufpool_workers as bp

app = Celery("mistaken", broker=os.environ["TEST_BROKER_URL"])
for name, value in json.loads(os.environ["TEST_WORKER_SETTINGS"]).items():
    app.conf[f"bufpool_{name}"] = value
bp.setup(app)
