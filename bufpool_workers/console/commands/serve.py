"""`bufpool serve`."""

import signal

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
    if port is None and host.settings.metrics_port is None:
        raise click.UsageError("no port: give --port, or set bufpool_metrics_port")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    with errors_as_messages():
        endpoint = host.serve(address=address, port=port)
    click.echo(f"metrics at {endpoint.url}")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    endpoint.close()
