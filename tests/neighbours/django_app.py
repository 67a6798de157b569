"""A Django project's app: Celery sets Django up when the worker imports its tasks."""

from home_app import make_app

app = make_app("shop", include=("django_tasks",))
