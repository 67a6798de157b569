"""`bufpool doctor`."""

import json

import click

from bufpool_workers.console.commands.common import Host, as_json_option, of_nodes
from bufpool_workers.diagnostics.node_finder import NodeFinder

_EXIT_STATUS = {"ok": 0, "note": 0, "warning": 1, "error": 2}


@click.command()
@as_json_option
@click.option("--all", "show_all", is_flag=True, help="Also show checks that found nothing.")
@of_nodes
def doctor(host: Host, *, finder: NodeFinder, as_json: bool, show_all: bool) -> None:
    """Look for what is wrong with host, app and workers.

    It also says what to do. It finds workers as status does, and suggests a bufpool_warm that fits
    their traffic, if they have counted enough. Run it as the workers' user, on their host.

    \b
    Exit status, as monitoring plugins have it:
      0  nothing to do, perhaps notes
      1  warnings, or the command failed
      2  errors: workers don't start, or protect less than you demand; wrong settings or usage
    """  # noqa: D301 - the \b is for click, which leaves the lines after it as they are
    findings = list(host.diagnose(finder))
    if as_json:
        click.echo(json.dumps([finding.as_dict() for finding in findings], indent=2))
    else:
        from bufpool_workers.console.doctor import show  # noqa: PLC0415 - Rich

        show(findings, no_color=host.no_color, show_all=show_all)
    status = max((_EXIT_STATUS[finding.severity] for finding in findings), default=0)
    click.get_current_context().exit(status)
