"""The app of workers that a test starts directly: settings from the test, tasks of this folder."""

import json
import os
import resource

import psutil
from celery import Celery, signals

import bufpool_workers as bp

app = Celery("plugin_app", include=["pool_tasks", "decorated_tasks"])
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))


def limit_address_space(**_: object) -> None:
    """Leave this process as much address space as the test says, so that mapping more fails."""
    limit = psutil.Process().memory_info().vms + int(os.environ["TEST_ADDRESS_SPACE_LEFT"])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if "TEST_ADDRESS_SPACE_LEFT" in os.environ:
    # before setup: handlers run in the order in which they were connected
    signals.celeryd_init.connect(limit_address_space, weak=False)

bp.setup(app)
bp.setup(app)  # once more changes nothing
