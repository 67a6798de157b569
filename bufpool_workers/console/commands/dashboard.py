"""`bufpool dashboard`."""

import click

from bufpool_workers.console import monitoring
from bufpool_workers.console.commands.common import Host, chosen_namespace, namespace_option


@click.command()
@namespace_option
@click.pass_obj
def dashboard(host: Host, /, *, namespace: str | None) -> None:
    """Print a dashboard for Grafana, as JSON to import.

    It fits the setting bufpool_metrics_namespace.
    """
    click.echo(monitoring.dashboard(chosen_namespace(host.settings, namespace)), nl=False)
