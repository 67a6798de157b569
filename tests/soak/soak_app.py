"""The app of the soak's workers."""

import json
import os

from celery import Celery
from kombu.transport.redis import Channel

import bufpool_workers as bp

# seconds between looks for messages whose worker died with them; no setting reaches it
Channel.unacked_restore_interval = 1

app = Celery("soak_app", include=["tests.soak.soak_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
