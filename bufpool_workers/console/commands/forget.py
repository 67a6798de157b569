"""`bufpool forget`."""

from __future__ import annotations

from pathlib import Path

import click

from bufpool_workers._environ import VARIABLE, configured_directory
from bufpool_workers.console.commands.common import Host, directory_argument, errors_as_messages
from bufpool_workers.counters import forget as forget_metric
from bufpool_workers.errors import MetricsError


@click.command()
@click.argument("name")
@directory_argument
@click.pass_obj
def forget(host: Host, /, *, name: str, directory: Path | None) -> None:
    """Drop a metric that the code no longer has.

    It drops NAME from the numbers of dead processes in DIR, else in PROMETHEUS_MULTIPROC_DIR or
    bufpool_metrics_dir. It changes no file of a living process; if one has the metric, it drops
    nothing.
    """
    settings = host.settings
    with errors_as_messages():
        where = directory or configured_directory(settings.metrics_dir)
        if where is None:
            raise MetricsError(
                f"no metrics directory: give DIR, or set {VARIABLE} or bufpool_metrics_dir"
            )
        series = forget_metric(where, name, namespace=settings.metrics_namespace)
    click.echo(f"forgot {name}: {series} series of dead processes")
