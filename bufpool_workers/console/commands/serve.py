"""`bufpool serve`."""

import signal
from dataclasses import replace
from typing import Any

import click

from bufpool_workers.console.commands.common import Host, errors_as_messages


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of bufpool_metrics_port.")
@click.option("--host", "address", help="Instead of bufpool_metrics_host.")
@click.pass_obj
def serve(host: Host, /, *, port: int | None, address: str | None) -> None:
    """Serve this node's scrape from a process of its own.

    It reads the directory that they count in, PROMETHEUS_MULTIPROC_DIR or bufpool_metrics_dir:
    one that is set for the workers and for this command.
    """
    given: dict[str, Any] = {"metrics_port": port, "metrics_host": address}
    options = {name: value for name, value in given.items() if value is not None}
    settings = replace(host.settings, **options)
    if settings.metrics_port is None:
        raise click.UsageError("no port: give --port, or set bufpool_metrics_port")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    with errors_as_messages():
        endpoint, url = host.serve(settings, options=options)
    click.echo(f"metrics at {url}")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    endpoint.close()
