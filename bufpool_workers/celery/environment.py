"""What a worker does before its tasks are imported, so that their metrics are shared by processes.

prometheus_client decides when it is imported, by an environment variable, whether its metrics are
one process's own or shared by all.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from bufpool_workers.runtime import Runtime
from bufpool_workers.runtime.directory import VARIABLE

logger = logging.getLogger(__name__)

_CLIENT = "prometheus_client"


class Environment:
    """What `setup` found in this process, and what that means for the worker's metrics."""

    def __init__(self) -> None:
        self.early_importers: tuple[str, ...] = ()
        """The modules that imported prometheus_client before `setup`, in a worker or doctor."""

    def prepare(self, runtime: Runtime) -> None:
        """Give a worker that has no metrics directory a private one, which ends with it.

        Does nothing in other commands. Raises MetricsError if the deployment names a directory
        that is not there, before a metric in a task module fails with less of a message.
        """
        command = _command()
        if command[:1] == ["bufpool"] and "doctor" in command:
            self.early_importers = _importers()
        # --detach: it ends here and goes on as another process, whose directory is to be its own
        if command[:1] != ["worker"] or {"-D", "--detach"} & set(command):
            return
        if runtime.directory.path is None:
            runtime.join_node(private=True)
            if runtime.directory.is_private:
                self.early_importers = _importers()

    def warn_unscraped(self, runtime: Runtime, *, private: Path | None, is_prefork: bool) -> None:
        """Warn of the prometheus_client metrics of this worker that are in no scrape.

        `private` is the directory that `prepare` made, which the setting may have replaced.
        """
        directory = runtime.directory.path
        if directory is not None and not runtime.directory.is_set_here:
            return  # there before anything was imported
        if private is None:
            importers = _importers()
            if importers:
                logger.warning(
                    "bufpool: this worker was not started by the command `celery worker`, and %s "
                    "was imported by %s without %s: its metrics made until then are each "
                    "process's own and will not be scraped; set %s in the worker's environment",
                    _CLIENT,
                    ", ".join(importers),
                    VARIABLE,
                    VARIABLE,
                )
            return
        if self.early_importers:
            logger.warning(
                "bufpool: %s was imported by %s before %s was set: its metrics made until then "
                "are each process's own and will not be scraped; call bufpool_workers.setup(app) "
                "before that import, or set %s in the worker's environment",
                _CLIENT,
                ", ".join(self.early_importers),
                VARIABLE,
                VARIABLE,
            )
        # a prefork child opens files of its own, after the fork
        if directory != private and not is_prefork and any(private.glob("*.db")):
            logger.warning(
                "bufpool: %s opened its files before bufpool_metrics_dir was read: the metrics "
                "made until then will not be scraped; instead of the setting, set %s=%s in the "
                "worker's environment",
                _CLIENT,
                VARIABLE,
                directory,
            )


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


def _importers() -> tuple[str, ...]:
    """Name the modules that hold something of an already imported prometheus_client."""
    if _CLIENT not in sys.modules:
        return ()

    def is_of_client(thing: object) -> bool:
        where = getattr(thing, "__module__", None) or getattr(thing, "__name__", None)
        return isinstance(where, str) and where.partition(".")[0] == _CLIENT

    return tuple(
        sorted(
            name
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] not in {_CLIENT, "bufpool_workers"}
            and any(map(is_of_client, list(vars(module).values())))
        )
    ) or ("another module",)
