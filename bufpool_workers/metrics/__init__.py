"""Counter files, their compaction, and the scrape. Knows nothing of the memory pools."""

from bufpool_workers.counters.catalog import (
    DEFAULT_NAMESPACE,
    LOCKED_BYTES,
    SECURE_LEVEL,
    WARMED,
    Catalog,
)
from bufpool_workers.counters.compaction import compact, compact_if_crowded
from bufpool_workers.counters.counterfile import CounterFile
from bufpool_workers.counters.report import (
    EscapePlace,
    ProcessReport,
    Report,
    make_report,
    read_report,
)
from bufpool_workers.counters.trim_request import ask_to_trim
from bufpool_workers.metrics.apps import Endpoint, asgi_app, wsgi_app
from bufpool_workers.metrics.collector import Collector, make_registry

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
    "compact_if_crowded",
    "make_registry",
    # describing
    "EscapePlace",
    "ProcessReport",
    "Report",
    "make_report",
    "read_report",
    # serving
    "Endpoint",
    "asgi_app",
    "wsgi_app",
]
