"""`bufpool top`."""

import click

from bufpool_workers.console import top as live
from bufpool_workers.console.commands.common import Host, of_nodes
from bufpool_workers.console.terminal import make_console
from bufpool_workers.diagnostics.node_finder import NodeFinder


@click.command()
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Refresh this often.",
)
@click.option("--count", type=click.IntRange(1), help="End after this many views.")
@of_nodes
def top(host: Host, *, finder: NodeFinder, interval: float, count: int | None) -> None:
    """Show pools and processes, live.

    It also shows gets and misses per second. q or Ctrl-C ends it. In a pipe it prints each view
    below the last one. It finds nodes as status does.
    """
    console = make_console(no_color=host.no_color)
    live.run(finder.find, console=console, seconds=interval, count=count)
