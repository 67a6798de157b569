"""Job systems other than Celery: their real commands, on a real Redis."""
