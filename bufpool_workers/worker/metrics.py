"""The worker's bootstep for metrics: a directory that can be counted in, and the endpoint."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool

from bufpool_workers.errors import MetricsError
from bufpool_workers.worker import metricsdir
from bufpool_workers.worker.counting import counting
from bufpool_workers.worker.refusal import refusing

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
        metricsdir.settle(settings.metrics_dir)
        metricsdir.warn_of_lost(is_prefork=issubclass(parent.pool_cls, PreforkPool))
        metricsdir.sign(node=parent.hostname, app=parent.app.main)
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
    directory = metricsdir.directory()
    if directory is not None:
        from bufpool_workers.metrics import compact  # noqa: PLC0415 - see counting

        try:
            compact(directory, foreign=settings.compact_foreign)
        except OSError as error:
            logger.warning("bufpool: files of dead processes can't be merged: %s", error)


def log_totals() -> None:
    """Log one line of what the node counted; the processes that are gone are in it too."""
    directory = metricsdir.directory()
    if directory is None:
        return
    from bufpool_workers.metrics import read_report, words  # noqa: PLC0415 - see counting

    try:
        report = read_report(directory, namespace=counting.source().metrics_namespace)
    except MetricsError as error:
        logger.warning("bufpool: no totals: %s", error)
        return
    total = report.total
    logger.info(
        "bufpool: %d gets, hit rate %s, %d escapes, %d reclaims",
        total.gets,
        "-" if total.hit_rate is None else words.format_percentage(total.hit_rate),
        total.escapes,
        total.reclaims,
        extra={"bufpool": {"event": "ended", **total.as_dict()}},
    )


def serve(settings: Settings) -> Endpoint:
    """Serve the scrape from a thread of this process, and from none of its children.

    Raises MetricsError that names the port and its setting when it is taken.
    """
    from bufpool_workers.metrics import Endpoint, wsgi_app  # noqa: PLC0415 - see counting

    app = wsgi_app(
        metricsdir.directory(),
        namespace=settings.metrics_namespace,
        compact_foreign=settings.compact_foreign,
    )
    port = settings.metrics_port or 0
    try:
        endpoint = Endpoint.start(
            app, port=port, host=settings.metrics_host, **settings.metrics_tls
        )
    except MetricsError as error:
        raise MetricsError(f"bufpool_metrics_port = {port}: {error}") from error
    os.register_at_fork(after_in_child=endpoint.close)
    logger.info("bufpool: metrics at %s:%d", settings.metrics_host, endpoint.port)
    return endpoint
