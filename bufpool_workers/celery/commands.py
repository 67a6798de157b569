"""`celery -A proj bufpool ...`: the commands of `bufpool_workers.console`, for a Celery app.

Every `celery` command loads this module, so the host's methods import what they need.
"""
# ruff: noqa: PLC0415 - see the docstring

from __future__ import annotations

import sys
from typing import Any

import click
from celery import signals

from bufpool_workers.console.commands import LazyGroup


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def bufpool(context: click.Context) -> None:
    """Look after pooled buffers, sealed arguments and metrics.

    Name the app first: celery -A proj bufpool COMMAND.
    """
    if context.obj is not None:  # in `celery bufpool COMMAND --help` too
        context.obj = AppHost(context.obj.app, no_color=context.obj.no_color)


class AppHost:
    """A Celery app as a `Host` of the commands; see `console/commands/common.py`."""

    def __init__(self, app: Any, *, no_color: bool) -> None:
        self.app = app
        self.no_color = no_color

    @property
    def settings(self) -> Any:
        """The app's settings; raises click.UsageError when they are wrong."""
        from celery.exceptions import ImproperlyConfigured

        from bufpool_workers.celery.plugin import read_settings

        try:
            return read_settings(self.app)
        except ImproperlyConfigured as error:
            raise click.UsageError(str(error)) from error

    def node_finder(self, *, directory: Any, names: Any, timeout_seconds: float) -> Any:
        """Make a finder of the app's nodes."""
        from bufpool_workers.celery.nodes import NodeFinder

        return NodeFinder(
            app=self.app,
            settings=self.settings,
            directory=directory,
            names=names,
            timeout_seconds=timeout_seconds,
        )

    def diagnose(self, finder: Any) -> Any:
        """Check the host, the app and its nodes."""
        from bufpool_workers.celery.doctor import diagnose

        return diagnose(finder)


def _worker_begins(instance: Any, **_: Any) -> None:
    """Warn of an app that uses the package without `setup`, at the start of any worker."""
    if "bufpool_workers.decorators" in sys.modules:
        from bufpool_workers.celery.app_checks import warn_without_setup

        warn_without_setup(instance.app)


signals.celeryd_after_setup.connect(_worker_begins, weak=False, dispatch_uid="bufpool")
