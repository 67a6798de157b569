"""Everything that touches Celery: setup, warm-up, bootsteps, commands."""
