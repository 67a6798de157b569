"""An app whose settings stand in upper case under a prefix, as Django projects have them."""

import os

from celery import Celery

import bufpool_workers as bp


class Settings:
    CELERY_BUFPOOL_WARM = {"regular": {"8KiB": 5}, "secure": {}, "random": {}}  # noqa: RUF012
    CELERY_WORKER_POOL_START_METHOD = os.environ["TEST_START_METHOD"]


app = Celery("namespaced_app", include=["pool_tasks"])
app.config_from_object(Settings, namespace="CELERY")
bp.setup(app)
