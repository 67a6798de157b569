"""`bufpool rules`."""

import re

import click

from bufpool_workers.console import monitoring
from bufpool_workers.console.commands.common import Host, chosen_namespace, namespace_option


@click.command()
@namespace_option
@click.option("--job", default="bufpool", show_default=True, help="The job's name in Prometheus.")
@click.option(
    "--runbook",
    default=monitoring.RUNBOOK,
    show_default=True,
    metavar="URL",
    help="Where your copy of the runbook is read; the alerts link to its sections.",
)
@click.pass_obj
def rules(host: Host, /, *, namespace: str | None, job: str, runbook: str) -> None:
    """Print recording and alert rules for Prometheus.

    They fit the settings bufpool_metrics_namespace and bufpool_secure_level.
    """
    settings = host.settings
    if not re.fullmatch(r"[^\s\"\\#]+", job):
        raise click.BadParameter("no spaces, quotes, backslashes or #", param_hint="--job")
    if not re.fullmatch(r"[^\s\"'\\#]+", runbook):
        raise click.BadParameter("no spaces, quotes, backslashes or #", param_hint="--runbook")
    prefix = chosen_namespace(settings, namespace)
    text = monitoring.rules(prefix, job=job, secure_level=settings.secure_level, runbook=runbook)
    click.echo(text, nl=False)
