"""`bufpool serve`."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bufpool_workers._environ import VARIABLE, configured_directory
from bufpool_workers.console.commands.common import (
    Host,
    chosen_namespace,
    directory_argument,
    errors_as_messages,
    namespace_option,
)
from bufpool_workers.errors import MetricsError, SettingsError
from bufpool_workers.settings import PREFIX, Settings

if TYPE_CHECKING:
    from bufpool_workers.metrics.server import Endpoint

_COMPACT_FOREIGN = (
    "Also merge the files that prometheus_client's own metrics leave when a process dies, so that "
    "they don't pile up. Counters, histograms and summaries stay exact. Gauges of the modes all "
    "and liveall then no longer list dead processes; those of livesum, livemin, livemax and "
    "livemostrecent leave them out; other modes still include them. It merges only files of this "
    "user, on a file system with leases (local disks, tmpfs): elsewhere it can't know whether a "
    "process still writes to them."
)


@click.command()
@directory_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Listen on this port, not on bufpool_metrics_port.",
)
@click.option("--host", "address", help="Listen on this address, not on bufpool_metrics_host.")
@namespace_option
@click.option("--certfile", metavar="FILE", help="Serve HTTPS with this certificate.")
@click.option("--keyfile", metavar="FILE", help="The certificate's private key.")
@click.option(
    "--client-cafile", metavar="FILE", help="Serve only clients with a certificate signed by it."
)
@click.option("--compact-foreign/--no-compact-foreign", default=None, help=_COMPACT_FOREIGN)
@click.pass_obj
def serve(host: Host, /, *, directory: Path | None, port: int | None, **options: Any) -> None:
    """Serve this node's scrape from a process of its own.

    It reads the directory in which the processes count: DIR, else PROMETHEUS_MULTIPROC_DIR or
    bufpool_metrics_dir. Any program that uses prometheus_client in multiprocess mode may count
    there.
    """
    settings = host.settings
    if port is None and settings.metrics_port is None:
        raise click.UsageError("no port: give --port, or set bufpool_metrics_port")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    with errors_as_messages():
        endpoint = _serve(settings, directory, port=port, **options)
    click.echo(f"metrics at {endpoint.url}")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    endpoint.close()


def _serve(  # noqa: PLR0913 - the options of the command
    settings: Settings,
    directory: Path | None,
    *,
    port: int | None,
    address: str | None,
    namespace: str | None,
    compact_foreign: bool | None,
    **files: str | None,
) -> Endpoint:
    from bufpool_workers.metrics import server, wsgi_app  # noqa: PLC0415 - prometheus_client

    where = directory or configured_directory(settings.metrics_dir)
    if where is None:
        raise MetricsError(
            f"no metrics directory: give DIR, or set {VARIABLE} or bufpool_metrics_dir, for the "
            "workers and for this command; workers without it count in private ones"
        )
    app = wsgi_app(
        where,
        namespace=chosen_namespace(settings, namespace),
        compact_foreign=settings.compact_foreign if compact_foreign is None else compact_foreign,
    )
    return server.serve(
        app,
        host=settings.metrics_host if address is None else address,
        port=settings.metrics_port or 0 if port is None else port,
        hosts=settings.metrics_hosts,
        tls=_tls(settings, **files),
        given={
            "host": f"{PREFIX}metrics_host = {settings.metrics_host!r}"
            if address is None
            else f"--host {address}",
            "port": f"{PREFIX}metrics_port = {settings.metrics_port!r}"
            if port is None
            else f"--port {port}",
        },
    )


def _tls(settings: Settings, **files: str | None) -> Mapping[str, Any]:
    given: dict[str, Any] = {name: path for name, path in files.items() if path is not None}
    if not given:
        return settings.metrics_tls
    if "client_cafile" in given:
        given["client_auth_required"] = True
    try:
        return Settings.read({"metrics_tls": given}).metrics_tls
    except SettingsError:  # what the options can get wrong
        raise click.UsageError("give --certfile and --keyfile together") from None
