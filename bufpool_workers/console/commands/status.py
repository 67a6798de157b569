"""`bufpool status`."""

import json

import click

from bufpool_workers.console.commands.common import Host, as_json_option, of_nodes
from bufpool_workers.diagnostics.node_finder import NodeFinder


@click.command()
@as_json_option
@click.option("--all", "show_all", is_flag=True, help="List all nodes of this host, a line each.")
@of_nodes
def status(host: Host, *, finder: NodeFinder, as_json: bool, show_all: bool) -> None:
    """Show pools and processes, once.

    It reads DIR, else the metrics directory that is set (PROMETHEUS_MULTIPROC_DIR,
    bufpool_metrics_dir), else the private directories of this host's workers. With
    `celery -A proj` it reads only those of the app's workers; if there are none, it asks all nodes
    of the app over the broker.

    Counters start with the directory and include dead processes. The numbers in use, idle, held
    and locked are those of living processes.
    """
    nodes = finder.find_all() if show_all else finder.find()
    if finder.is_for_every_app and not show_all:
        click.echo(
            "the workers of every app on this host: give -A an app that bufpool_workers.setup was "
            "called with, to see its own",
            err=True,
        )
    if as_json:
        click.echo(json.dumps({node.name: node.report.as_dict() for node in nodes}, indent=2))
        return
    from bufpool_workers.console.tables import draw_node, draw_nodes  # noqa: PLC0415 - Rich
    from bufpool_workers.console.terminal import make_console  # noqa: PLC0415 - Rich

    console = make_console(no_color=host.no_color)
    if show_all:
        console.print(draw_nodes(nodes), crop=False)
        return
    for number, node in enumerate(nodes):
        if number:
            console.print()
        console.print(draw_node(node), crop=False)
