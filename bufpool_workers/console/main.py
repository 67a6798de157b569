"""`bufpool ...`: the commands of every host, without Celery."""

import click

from bufpool_workers.console.commands import LazyGroup
from bufpool_workers.console.directory_host import DirectoryHost


@click.group(
    cls=LazyGroup,
    without_options={"timeout_seconds"},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-C", "--no-color", is_flag=True, help="Print without colours, on a terminal too.")
@click.version_option(package_name="bufpool-workers")
@click.pass_context
def bufpool(context: click.Context, /, *, no_color: bool) -> None:
    """Look after pooled buffers, sealed arguments and metrics, with any job system.

    The settings come from the environment, such as BUFPOOL_METRICS_PORT=9464. For the settings of a
    Celery app, and its nodes on other hosts, use: celery -A proj bufpool COMMAND.
    """
    context.obj = DirectoryHost(no_color=no_color)
