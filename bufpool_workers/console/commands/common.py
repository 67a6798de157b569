"""Shared by the commands: the host that they run for, their options, their errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.nodes import Node
from bufpool_workers.errors import BufpoolError
from bufpool_workers.settings import Settings

if TYPE_CHECKING:
    from bufpool_workers.metrics.server import Endpoint

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
namespace_option = click.option("--namespace", help="Instead of bufpool_metrics_namespace.")


class NodeFinder(Protocol):
    """Finds the nodes that a command is for."""

    @property
    def is_for_every_app(self) -> bool:
        """True if workers of all apps on this host are found, because no app was given."""

    def find(self) -> list[Node]:
        """Read the numbers of the nodes; raise MetricsError when there are none."""


class Host(Protocol):
    """The job system that the commands run for: the `obj` of their click context."""

    no_color: bool

    @property
    def settings(self) -> Settings:
        """The app's settings; raises click.UsageError when they are wrong."""

    def node_finder(self, *, names: Collection[str], timeout_seconds: float) -> NodeFinder:
        """Make a finder of these nodes, or of all."""

    def diagnose(self, finder: NodeFinder) -> Iterable[Finding]:
        """Check the host, the app and its nodes."""

    def serve(self, *, address: str | None, port: int | None) -> Endpoint:
        """Serve the scrape, at the address and port of the settings if they are None.

        Raises MetricsError.
        """


def of_nodes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose nodes; the command gets the host and a node finder."""

    @click.option(
        "-n",
        "--node",
        "names",
        multiple=True,
        metavar="NAME",
        help="This node, such as celery@host, on whatever host; may be repeated.",
    )
    @click.option(
        "--timeout",
        "timeout_seconds",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for answers over the broker.",
    )
    @click.pass_obj
    def with_nodes(
        host: Host, /, *, names: Collection[str], timeout_seconds: float, **options: Any
    ) -> None:
        finder = host.node_finder(names=names, timeout_seconds=timeout_seconds)
        with errors_as_messages():
            command(host, finder=finder, **options)

    return functools.update_wrapper(with_nodes, command)


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Turn an error that the user can mend into one line and an exit status."""
    try:
        yield
    except BufpoolError as error:
        raise click.ClickException(str(error)) from error


def chosen_namespace(settings: Settings, given: str | None) -> str:
    """Return the namespace of the option, or else of the settings; raise BadParameter if wrong."""
    try:
        return Catalog(given or settings.metrics_namespace).namespace
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--namespace") from error
