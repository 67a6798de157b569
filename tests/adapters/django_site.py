"""The settings of a Django project whose jobs django-rq queues and performs."""

import os

SECRET_KEY = "of a test"  # noqa: S105
INSTALLED_APPS = ["django_rq"]
RQ_QUEUES = {name: {"URL": os.environ["TEST_BROKER_URL"]} for name in ("default", "later")}
RQ = {
    "WORKER_CLASS": f"bufpool_workers.rq.{os.environ.get('TEST_WORKER_CLASS', 'SimpleWorker')}",
    "JOB_CLASS": "bufpool_workers.rq.Job",
}
