"""The start of a worker: before its tasks are imported, its processes share their metrics."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from bufpool_workers._environ import VARIABLE
from bufpool_workers.errors import MetricsError
from bufpool_workers.runtime import Runtime

logger = logging.getLogger(__name__)

_CLIENT = "prometheus_client"


class Environment:
    """Facts about this process that `setup` found, and their meaning for the worker's metrics.

    `lost` names the metrics of prometheus_client that were made too early to be shared. `is_beat`
    tells whether this is the command `celery beat`.
    """

    def __init__(self) -> None:
        self.is_beat = False
        self.lost: tuple[str, ...] = ()

    def prepare(self, runtime: Runtime) -> None:
        """Make a private metrics directory for a worker that has none; it ends with the worker.

        Does nothing in other commands. Ends the worker with a line that says what to set, if the
        deployment names a directory that is not there or none can be made: a metric in a task
        module would fail with less of a message.
        """
        command = _command()
        self.is_beat = command[:1] == ["beat"]
        if command[:1] == ["bufpool"] and "doctor" in command:
            self._note_lost(share=False)
        # --detach: it ends here and goes on as another process, whose directory is to be its own
        if command[:1] != ["worker"] or {"-D", "--detach"} & set(command):
            return
        if runtime.directory.path is None:
            try:
                runtime.join_node(private=True)
            except MetricsError as error:
                # Celery shows any other exception of an app's module with a traceback
                raise SystemExit(f"Error: {error}") from None
            if runtime.directory.is_private:
                self._note_lost(share=True)

    def check_metrics(self, runtime: Runtime, *, private: Path | None, is_prefork: bool) -> None:
        """Share later metrics, and warn of those of this worker that are in no scrape.

        `private` is the directory that `prepare` made, which the setting may have replaced.
        """
        directory = runtime.directory.path
        if directory is not None and not runtime.directory.is_set_here:
            return  # there before anything was imported
        if private is None:
            self._note_lost(share=directory is not None)
        if self.lost:
            logger.warning(
                "bufpool: these metrics were made before there was a metrics directory; they are "
                "each process's own and will not be scraped: %s; %s, or set %s in the worker's "
                "environment",
                ", ".join(self.lost),
                "call bufpool_workers.setup(app) before they are made"
                if private is not None
                else "start the worker with the command `celery worker`",
                VARIABLE,
            )
        # a prefork child opens files of its own, after the fork
        if private and directory != private and not is_prefork and any(private.glob("*.db")):
            logger.warning(
                "bufpool: %s opened its files before bufpool_metrics_dir was read: the metrics "
                "made until then will not be scraped; instead of the setting, set %s=%s in the "
                "worker's environment",
                _CLIENT,
                VARIABLE,
                directory,
            )

    def _note_lost(self, *, share: bool) -> None:
        if _CLIENT in sys.modules:
            from bufpool_workers.metrics import late_values  # noqa: PLC0415 - only with the client

            self.lost = late_values.names_of_metrics()
            if share:
                late_values.share_later_values()


environment = Environment()
"""Of this process."""


def _command() -> list[str]:
    """Return the words of this process's `celery` command, without `-A app` and such."""
    program = Path(sys.argv[0])
    is_celery = program.name == "celery" or program.parts[-2:] == ("celery", "__main__.py")
    module = sys.modules.get("celery.bin.celery")  # not there in a spawned child
    if not is_celery or module is None:
        return []
    import click  # noqa: PLC0415 - not in producers

    try:
        parser = module.celery.make_parser(click.Context(module.celery))
        return list(parser.parse_args(sys.argv[1:])[1])
    except click.UsageError:
        return []
