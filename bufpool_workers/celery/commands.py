"""`celery -A proj bufpool ...`; every `celery` command imports this, so the rest is lazy."""

from __future__ import annotations

import functools
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bufpool() -> None:
    """Pooled buffers, sealed arguments, and their metrics.

    Give the app before it: celery -A proj bufpool COMMAND.
    """


def _of_nodes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which nodes; the command gets a function that finds them."""

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
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for answers over the broker.",
    )
    @click.pass_context
    def with_nodes(context: click.Context, /, **options: Any) -> None:
        from bufpool_workers.celery.nodes import Finder  # noqa: PLC0415 - see the module's docstring

        app = _app(context)
        finder = Finder(
            app=app,
            settings=_settings(app),
            names=options.pop("names"),
            timeout_seconds=options.pop("timeout"),
        )
        _or_fail(lambda: command(context, finder=finder, **options))

    return functools.update_wrapper(with_nodes, command)


@bufpool.command()
@_JSON
@_of_nodes
def status(context: click.Context, *, finder: Any, as_json: bool) -> None:
    """Show pools and processes, once.

    It reads the metrics directory that is set (PROMETHEUS_MULTIPROC_DIR, bufpool_metrics_dir);
    without one, those of this host's workers of the app; without any, it asks all nodes of the
    app over the broker. Counters are since that directory began, of dead processes too; what is
    in use, idle, held and locked is of living ones.
    """
    nodes = finder.find()
    if finder.is_for_every_app:
        click.echo(
            "the workers of every app on this host: give -A an app that bufpool_workers.setup was "
            "called with, to see its own",
            err=True,
        )
    if as_json:
        click.echo(json.dumps({node.name: node.report.as_dict() for node in nodes}, indent=2))
        return
    from bufpool_workers.console.tables import draw_node, make_console  # noqa: PLC0415 - as above

    console = make_console(no_color=context.obj.no_color)
    for number, node in enumerate(nodes):
        if number:
            console.print()
        console.print(draw_node(node), crop=False)


@bufpool.command()
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option("--count", type=click.IntRange(1), help="End after so many looks.")
@_of_nodes
def top(context: click.Context, *, finder: Any, interval: float, count: int | None) -> None:
    """Show pools and processes, top.

    With what happens in a second. q or Ctrl-C ends it. In a pipe each look is printed below the
    last one. It finds nodes as status does.
    """
    from bufpool_workers.console import top  # noqa: PLC0415 - see the module's docstring
    from bufpool_workers.console.tables import make_console  # noqa: PLC0415 - as above

    console = make_console(no_color=context.obj.no_color)
    top.run(finder.find, console=console, seconds=interval, count=count)


@bufpool.command()
@_JSON
@click.option("--all", "show_all", is_flag=True, help="Show also what is well.")
@_of_nodes
def doctor(context: click.Context, *, finder: Any, as_json: bool, show_all: bool) -> None:
    """Look for what is wrong with host, app and workers.

    And what to do about it. Suggests a bufpool_warm that fits the traffic, when the workers it
    finds (as status does) have counted enough. Run it as the workers' user, on their host.

    \b
    Exit status, as monitoring plugins have it:
      0  nothing to do (notes are no reason to do something)
      1  warnings, or the command could not do its work
      2  errors: workers don't start, or protect less than is demanded; wrong settings or usage
    """  # noqa: D301 - the \b is for click, which leaves the lines after it as they are
    from bufpool_workers.celery.doctor import diagnose  # noqa: PLC0415 - as above
    from bufpool_workers.console import doctor  # noqa: PLC0415 - see the module's docstring

    findings = list(diagnose(finder))
    if as_json:
        click.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        doctor.show(findings, no_color=context.obj.no_color, show_all=show_all)
    context.exit(doctor.exit_status(findings))


@bufpool.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of bufpool_metrics_port.")
@click.option("--host", help="Instead of bufpool_metrics_host.")
@click.pass_context
def serve(context: click.Context, port: int | None, host: str | None) -> None:
    """Serve this node's scrape from a process of its own.

    It reads the directory that they count in, PROMETHEUS_MULTIPROC_DIR or bufpool_metrics_dir:
    one that is set for the workers and for this command.
    """
    from dataclasses import replace  # noqa: PLC0415 - see the module's docstring

    from bufpool_workers.celery import environment, metrics  # noqa: PLC0415 - as above

    settings = _settings(_app(context))
    options: dict[str, Any] = {"metrics_port": port, "metrics_host": host}
    options = {name: value for name, value in options.items() if value is not None}
    settings = replace(settings, **options)
    if settings.metrics_port is None:
        raise click.UsageError("no port: give --port, or set bufpool_metrics_port")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

    def start() -> Any:
        environment.settle(settings.metrics_dir)
        return metrics.serve(settings, options=options)

    endpoint = _or_fail(start)
    click.echo(f"metrics at {endpoint.url}")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    endpoint.close()


@bufpool.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write a new private key to; it must not exist.",
)
@click.option("--public", "private", metavar="FILE", help="Print this private key's public one.")
def keygen(*, out: Path | None, private: str | None) -> None:
    """Make a key pair for sealed arguments.

    Writes the private key to a new file that its owner alone can read, for bufpool_private_keys of
    the workers, and prints the public key, for bufpool_public_key of the producers.
    """
    from bufpool_workers.sealing.keys import (  # noqa: PLC0415 - see the module's docstring
        generate_key,
        public_of,
    )

    if private is not None and out is None:
        click.echo(_or_fail(lambda: public_of(private)))
        return
    if out is None or private is not None:
        raise click.UsageError("give one of --out and --public")
    try:
        public = generate_key(out)
    except FileExistsError:
        raise click.ClickException(f"{out} exists, and a key is never overwritten") from None
    except OSError as error:
        raise click.ClickException(f"{out}: {error.strerror}") from None
    click.echo(public)


@bufpool.command()
@click.option("--namespace", help="Instead of bufpool_metrics_namespace.")
@click.option("--job", default="bufpool", show_default=True, help="The job's name in Prometheus.")
@click.pass_context
def rules(context: click.Context, namespace: str | None, job: str) -> None:
    """Print recording and alert rules for Prometheus.

    They are for the app's bufpool_metrics_namespace and bufpool_secure_level.
    """
    from bufpool_workers.console import monitoring  # noqa: PLC0415 - see the module's docstring

    settings = _settings(_app(context))
    if not re.fullmatch(r"[^\s\"\\#]+", job):
        raise click.BadParameter("no spaces, quotes, backslashes or #", param_hint="--job")
    prefix = _namespace(settings, namespace)
    text = monitoring.rules(prefix, job=job, secure_level=settings.secure_level)
    click.echo(text, nl=False)


@bufpool.command()
@click.option("--namespace", help="Instead of bufpool_metrics_namespace.")
@click.pass_context
def dashboard(context: click.Context, namespace: str | None) -> None:
    """Print a dashboard for Grafana, as JSON to import.

    It is for the app's bufpool_metrics_namespace.
    """
    from bufpool_workers.console import monitoring  # noqa: PLC0415 - see the module's docstring

    prefix = _namespace(_settings(_app(context)), namespace)
    click.echo(monitoring.dashboard(prefix), nl=False)


def _namespace(settings: Any, given: str | None) -> str:
    from bufpool_workers.metrics import Catalog  # noqa: PLC0415 - see the module's docstring

    try:
        return Catalog(given or settings.metrics_namespace).namespace
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--namespace") from error


def _app(context: click.Context) -> Any:
    return context.obj.app  # as Celery's own commands find it


def _settings(app: Any) -> Any:
    from celery.exceptions import ImproperlyConfigured  # noqa: PLC0415 - see the module's docstring

    from bufpool_workers.celery.plugin import read_settings  # noqa: PLC0415 - as above

    try:
        return read_settings(app)
    except ImproperlyConfigured as error:
        raise click.UsageError(str(error)) from error


def _or_fail(work: Callable[[], Any]) -> Any:
    """Turn an error that the user can do something about into one line and an exit status."""
    from bufpool_workers.errors import BufpoolError  # noqa: PLC0415 - see the module's docstring

    try:
        return work()
    except BufpoolError as error:
        raise click.ClickException(str(error)) from error
