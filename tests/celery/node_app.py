"""The app of a worker node; pytest-celery fills in the three lines that look unfinished."""

from celery import Celery

import bufpool_workers as bp

imports = None

app = Celery("celery_test_app")
config = None

if config:
    app.config_from_object(config)

bp.setup(app)
