"""`celery -A proj bufpool ...`; every `celery` command imports this, so the rest is lazy."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click


@click.group()
def bufpool() -> None:
    """Pooled buffers, sealed arguments, and their metrics."""


@bufpool.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of bufpool_metrics_port.")
@click.option("--host", help="Instead of bufpool_metrics_host.")
@click.pass_context
def serve(context: click.Context, port: int | None, host: str | None) -> None:
    """Serve the scrape of this node's workers from a process of its own.

    It reads the directory that they count in: PROMETHEUS_MULTIPROC_DIR or bufpool_metrics_dir.
    """
    from dataclasses import replace  # noqa: PLC0415

    from bufpool_workers.errors import BufpoolError  # noqa: PLC0415
    from bufpool_workers.worker import metrics, metricsdir  # noqa: PLC0415
    from bufpool_workers.worker.plugin import read_settings  # noqa: PLC0415

    settings = read_settings(_app(context))
    given: dict[str, Any] = {"metrics_port": port, "metrics_host": host}
    settings = replace(
        settings, **{key: value for key, value in given.items() if value is not None}
    )
    if settings.metrics_port is None:
        raise click.UsageError("no port: give --port, or set bufpool_metrics_port")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        metricsdir.settle(settings.metrics_dir)
        endpoint = metrics.serve(settings)
    except BufpoolError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"metrics at {settings.metrics_host}:{endpoint.port}")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    endpoint.close()


def _app(context: click.Context) -> Any:
    return context.obj.app  # as Celery's own commands find it


@bufpool.command()
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write the private key to; it must not exist.",
)
def keygen(*, out: Path) -> None:
    """Make a key pair for sealed arguments.

    Writes the private key to a new file that its owner alone can read, for bufpool_private_keys of
    the workers, and prints the public key, for bufpool_public_key of the producers.
    """
    from bufpool_workers.sealing import generate_key  # noqa: PLC0415 - see the module's docstring

    try:
        public = generate_key(out)
    except FileExistsError:
        raise click.ClickException(f"{out} exists, and a key is never overwritten") from None
    except OSError as error:
        raise click.ClickException(f"{out}: {error.strerror}") from None
    click.echo(public)
