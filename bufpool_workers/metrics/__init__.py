"""The scrape and the status page, with the counter files that they are made from."""

from bufpool_workers.counters import (
    DEFAULT_NAMESPACE,
    LOCKED_BYTES,
    SECURE_LEVEL,
    WARMED,
    Catalog,
    CounterFile,
    EscapePlace,
    ProcessReport,
    Report,
    ask_to_trim,
    compact,
    compact_above,
    make_report,
    read_report,
)
from bufpool_workers.metrics.apps import asgi_app, wsgi_app
from bufpool_workers.metrics.collector import Collector, make_registry
from bufpool_workers.metrics.server import Endpoint, serve

__all__ = [  # noqa: RUF022 - grouped by topic
    # counting
    "Catalog",
    "CounterFile",
    "DEFAULT_NAMESPACE",
    "LOCKED_BYTES",
    "SECURE_LEVEL",
    "WARMED",
    "ask_to_trim",
    # scraping
    "Collector",
    "compact",
    "compact_above",
    "make_registry",
    # describing
    "EscapePlace",
    "ProcessReport",
    "Report",
    "make_report",
    "read_report",
    # serving
    "Endpoint",
    "serve",
    "asgi_app",
    "wsgi_app",
]
