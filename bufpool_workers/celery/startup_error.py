"""Errors that end a worker's start with their message alone, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from celery.exceptions import ImproperlyConfigured

from bufpool_workers.errors import BufpoolError


class WorkerStartupError(ImproperlyConfigured, click.ClickException):  # type: ignore[misc]  # no types
    """The worker can't start before its user sets something right.

    The `celery` command prints it as it prints wrong usage. A program that starts a worker catches
    it as Celery's ImproperlyConfigured.
    """


@contextmanager
def startup_errors() -> Iterator[None]:
    """Raise WorkerStartupError for errors that the user can mend; others keep their traceback."""
    try:
        yield
    except (BufpoolError, ImproperlyConfigured) as error:
        raise WorkerStartupError(str(error)) from error
