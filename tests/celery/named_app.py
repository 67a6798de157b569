"""An app with a name of the test's own, so that commands find no worker of another test."""

import json
import os

from celery import Celery

import bufpool_workers as bp

app = Celery(os.environ["TEST_APP_NAME"], include=["pool_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
