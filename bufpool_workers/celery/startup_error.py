"""Why a worker does not start, said to people: the message alone, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from celery.exceptions import ImproperlyConfigured

from bufpool_workers.errors import BufpoolError


class WorkerRefused(ImproperlyConfigured, click.ClickException):  # type: ignore[misc]  # no types
    """What somebody has to set right before the worker can start.

    The `celery` command prints it as it prints wrong usage; whoever starts a worker from Python
    catches it as Celery's ImproperlyConfigured.
    """


@contextmanager
def refusing() -> Iterator[None]:
    """Raise WorkerRefused for errors with a message for people; others keep their traceback."""
    try:
        yield
    except (BufpoolError, ImproperlyConfigured) as error:
        raise WorkerRefused(str(error)) from error
