"""Shared by the commands: the host that they run for, their options, their errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import click

from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.node_finder import NodeFinder
from bufpool_workers.errors import BufpoolError, SettingsError
from bufpool_workers.settings import Settings

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
namespace_option = click.option("--namespace", help="Use this, not bufpool_metrics_namespace.")
directory_argument = click.argument(
    "directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path)
)


class Host(Protocol):
    """The job system that the commands run for: the `obj` of their click context."""

    no_color: bool

    @property
    def settings(self) -> Settings:
        """The host's settings; raises click.UsageError when they are wrong."""

    def node_finder(
        self, *, directory: Path | None, names: Collection[str], timeout_seconds: float
    ) -> NodeFinder:
        """Make a finder of the nodes in a directory, of these names, or of all."""

    def diagnose(self, finder: Any) -> Iterable[Finding]:
        """Check the host, its program and its nodes."""


def of_nodes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose nodes; the command gets the host and a node finder."""

    @directory_argument
    @click.option(
        "-n",
        "--node",
        "names",
        multiple=True,
        metavar="NAME",
        help="Ask this node, such as celery@host; may be repeated.",
    )
    @click.option(
        "--timeout",
        "timeout_seconds",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="Wait so long for answers over the broker.",
    )
    @click.pass_obj
    def with_nodes(
        host: Host,
        /,
        *,
        directory: Path | None,
        names: Collection[str],
        timeout_seconds: float = 1.0,  # of the `bufpool` command, which asks no broker
        **options: Any,
    ) -> None:
        finder = host.node_finder(directory=directory, names=names, timeout_seconds=timeout_seconds)
        with errors_as_messages():
            command(host, finder=finder, **options)

    return functools.update_wrapper(with_nodes, command)


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Turn an error that the user can mend into one line and an exit status."""
    try:
        yield
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    except BufpoolError as error:
        raise click.ClickException(str(error)) from error


def chosen_namespace(settings: Settings, given: str | None) -> str:
    """Return the namespace of the option, or else of the settings; raise BadParameter if wrong."""
    try:
        return Catalog(given or settings.metrics_namespace).namespace
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--namespace") from error
