"""The commands that every job system's `bufpool` has; each is imported when it is run.

Imports nothing but click: the `celery` command loads this package whatever its user asks for.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from importlib import import_module
from typing import Any

import click

_SHORT_HELPS = {
    "status": "Show pools and processes, once.",
    "top": "Show pools and processes, live.",
    "doctor": "Look for what is wrong with host, app and workers.",
    "serve": "Serve this node's scrape from a process of its own.",
    "forget": "Drop a metric that the code no longer has.",
    "keygen": "Make a key pair for sealed arguments.",
    "rules": "Print recording and alert rules for Prometheus.",
    "dashboard": "Print a dashboard for Grafana, as JSON to import.",
}


class LazyGroup(click.Group):
    """A group that lists its commands without importing them.

    `without_options` names options of them that mean nothing to its host.
    """

    def __init__(
        self, *args: Any, without_options: Collection[str] = frozenset(), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._without_options = without_options

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order of the help."""
        return list(_SHORT_HELPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command, from the module of its name."""
        if cmd_name not in _SHORT_HELPS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        command = copy.copy(command)
        command.params = [p for p in command.params if p.name not in self._without_options]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands with their short help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_SHORT_HELPS.items()))
