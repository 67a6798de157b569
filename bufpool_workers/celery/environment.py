"""The start of a worker: before its tasks are imported, its processes share their metrics."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from bufpool_workers._environ import VARIABLE
from bufpool_workers.runtime import Runtime

logger = logging.getLogger(__name__)

_CLIENT = "prometheus_client"


class Environment:
    """The facts that `setup` found about this process: `is_beat` is true in `celery beat`."""

    def __init__(self) -> None:
        self.is_beat = False
        self._prepared: Path | None = None

    def prepare(self, runtime: Runtime) -> None:
        """Make a private metrics directory for a worker that has none; it ends with the worker.

        Does nothing in other commands. Ends the worker with a line that says what to set, if the
        deployment names a directory that is not there or none can be made: a metric in a task
        module would fail with less of a message.
        """
        command = _command()
        self.is_beat = command[:1] == ["beat"]
        # --detach: it ends here and goes on as another process, whose directory is to be its own
        if command[:1] != ["worker"] or {"-D", "--detach"} & set(command):
            return
        if runtime.node.directory.path is None:
            from bufpool_workers.runtime.startup import errors_as_exit  # noqa: PLC0415 - workers'

            with errors_as_exit():
                runtime.node.join(private=True)
            if runtime.node.directory.is_private and _CLIENT in sys.modules:
                _share_values()
            self._prepared = runtime.node.directory.path

    def share_metrics(self, runtime: Runtime) -> None:
        """Make the metrics of the worker's modules count in its directory, before it has children.

        They were made in a directory that has changed since, or before there was one. With none
        to this day, a warning names them.
        """
        directory = runtime.node.directory.path
        has_moved = runtime.node.directory.hold() or directory != self._prepared
        if _CLIENT not in sys.modules:
            return
        if directory is not None:
            if has_moved:
                _share_values()
        elif names := _names_of_metrics():
            logger.warning(
                "bufpool: this worker has no metrics directory: these metrics are each process's "
                "own and will not be scraped: %s; start the worker with the command `celery "
                "worker`, or set %s in its environment",
                ", ".join(names),
                VARIABLE,
            )


def _share_values() -> None:
    from bufpool_workers.metrics import late_values  # noqa: PLC0415 - only with the client

    late_values.share_values()


def _names_of_metrics() -> tuple[str, ...]:
    from bufpool_workers.metrics import late_values  # noqa: PLC0415 - only with the client

    return late_values.names_of_metrics()


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
