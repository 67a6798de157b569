"""The app that commands are measured with: a producer's, which imports nothing else."""

from celery import Celery

import bufpool_workers as bp

app = Celery("shop", broker="memory://")
bp.setup(app)
