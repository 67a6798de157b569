"""The worker's bootstep for metrics: a directory that can be counted in, and the endpoint."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool

from bufpool_workers.celery import environment
from bufpool_workers.celery.startup_error import startup_errors
from bufpool_workers.errors import MetricsError
from bufpool_workers.runtime.counting import counting
from bufpool_workers.settings import PREFIX

if TYPE_CHECKING:
    from bufpool_workers.metrics import Endpoint
    from bufpool_workers.settings import Settings

logger = logging.getLogger(__name__)

_NO_SUCH_HOST = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_NO_SUCH_PORT = {errno.EADDRINUSE, errno.EACCES}  # taken; below 1024, for others than root


class MetricsStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Stops a worker that could not count or not be scraped, before it has any child."""

    name = "bufpool_workers.Metrics"

    @startup_errors()
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
        from bufpool_workers.metrics import compact  # noqa: PLC0415 - see counting

        try:
            compact(directory, foreign=settings.compact_foreign)
        except OSError as error:
            logger.warning("bufpool: files of dead processes can't be merged: %s", error)


def log_totals() -> None:
    """Log one line of what the node counted; the processes that are gone are in it too."""
    directory = environment.directory()
    if directory is None:
        return
    from bufpool_workers import units  # noqa: PLC0415 - see counting
    from bufpool_workers.metrics import read_report  # noqa: PLC0415 - see counting

    try:
        report = read_report(directory, namespace=counting.source().metrics_namespace)
    except MetricsError as error:
        logger.warning("bufpool: no totals: %s", error)
        return
    total = report.total
    logger.info(
        "bufpool: %d gets, hit rate %s, %d escapes, %d reclaims",
        total.gets,
        "-" if total.hit_rate is None else units.format_percentage(total.hit_rate),
        total.escapes,
        total.reclaims,
        extra={"bufpool": {"event": "ended", **total.as_dict()}},
    )


def serve(settings: Settings, *, options: Collection[str] = ()) -> Endpoint:
    """Serve the scrape from a thread of this process, and from none of its children.

    Raises MetricsError that names the setting with which it can't, or the command's option in its
    place where `options` has it.
    """
    from bufpool_workers.metrics import Endpoint, wsgi_app  # noqa: PLC0415 - see counting

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
    try:
        endpoint = Endpoint.start(app, port=port, host=host, **settings.metrics_tls)
    except MetricsError as error:
        wrong = _wrong(error.__cause__)
        if wrong is None:
            raise
        value = getattr(settings, wrong)
        option = f"--{wrong.removeprefix('metrics_')} {value}"
        given = option if wrong in options else f"{PREFIX}{wrong} = {value!r}"
        raise MetricsError(f"{given}: {error}") from error
    os.register_at_fork(after_in_child=endpoint.close)
    logger.info("bufpool: metrics at %s", url(settings, endpoint.port))
    return endpoint


def url(settings: Settings, port: int) -> str:
    """Give the address at which the endpoint on that port is found, for people to click."""
    host = settings.metrics_host
    scheme = "https" if settings.metrics_tls else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"


def _wrong(error: BaseException | None) -> str | None:
    """Tell which setting made an address that can't be listened on; None for other reasons."""
    if not isinstance(error, OSError):
        return None
    if isinstance(error, socket.gaierror) or error.errno in _NO_SUCH_HOST:
        return "metrics_host"
    return "metrics_port" if error.errno in _NO_SUCH_PORT else None
