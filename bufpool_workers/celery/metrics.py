"""The worker's bootstep for metrics: a directory that can be counted in, and the endpoint."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool

from bufpool_workers.celery import environment
from bufpool_workers.celery.startup_error import refusing
from bufpool_workers.counters import compact, read_report
from bufpool_workers.errors import MetricsError
from bufpool_workers.runtime.counting import counting
from bufpool_workers.settings import PREFIX
from bufpool_workers.units import format_percentage

if TYPE_CHECKING:
    from bufpool_workers.metrics import Endpoint
    from bufpool_workers.settings import Settings

logger = logging.getLogger(__name__)


class MetricsStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Stops a worker that could not count or not be scraped, before it has any child."""

    name = "bufpool_workers.Metrics"

    @refusing()
    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        settings = counting.source()
        environment.settle(settings.metrics_dir)
        environment.warn_of_lost(is_prefork=issubclass(parent.pool_cls, PreforkPool))
        environment.sign(node=parent.hostname, app=parent.app.main)
        counting.check()
        compact_leftovers(settings)
        self._endpoint = None if settings.metrics_port is None else serve(settings)

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop listening."""
        if self._endpoint is not None:
            self._endpoint.close()

    terminate = stop


def compact_leftovers(settings: Settings) -> None:
    """Merge what earlier workers, or an earlier boot, left in the directory."""
    directory = environment.directory()
    if directory is not None:
        try:
            compact(directory, foreign=settings.compact_foreign)
        except OSError as error:
            logger.warning("bufpool: files of dead processes can't be merged: %s", error)


def log_totals() -> None:
    """Log one line of what the node counted; the processes that are gone are in it too."""
    directory = environment.directory()
    if directory is None:
        return
    try:
        report = read_report(directory, namespace=counting.source().metrics_namespace)
    except MetricsError as error:
        logger.warning("bufpool: no totals: %s", error)
        return
    total = report.total
    logger.info(
        "bufpool: %d gets, hit rate %s, %d escapes, %d reclaims",
        total.gets,
        "-" if total.hit_rate is None else format_percentage(total.hit_rate),
        total.escapes,
        total.reclaims,
        extra={"bufpool": {"event": "ended", **total.as_dict()}},
    )


def serve(settings: Settings, *, options: Collection[str] = ()) -> Endpoint:
    """Serve the scrape from a thread of this process, and from none of its children.

    Raises MetricsError that names the setting that is wrong, or the command's option in its place
    where `options` has it.
    """
    from bufpool_workers.metrics import server, wsgi_app  # noqa: PLC0415 - only where it serves

    directory = environment.directory()
    if directory is None:
        raise MetricsError(
            f"no metrics directory: set {environment.VARIABLE} or bufpool_metrics_dir, for the "
            "workers and for this command; workers without it count in private ones"
        )
    app = wsgi_app(
        directory, namespace=settings.metrics_namespace, compact_foreign=settings.compact_foreign
    )
    port, host = settings.metrics_port or 0, settings.metrics_host
    return server.serve(
        app,
        port=port,
        host=host,
        tls=settings.metrics_tls,
        given={
            name: f"--{name} {value}"
            if f"metrics_{name}" in options
            else f"{PREFIX}metrics_{name} = {value!r}"
            for name, value in (("port", port), ("host", host))
        },
    )
