"""Counter files, their compaction, and the scrape. Knows nothing of the memory pools."""

from bufpool_workers.metrics.catalog import (
    DEFAULT_NAMESPACE,
    LOCKED_BYTES,
    SECURE_LEVEL,
    WARMED,
    Catalog,
)
from bufpool_workers.metrics.collector import Collector, make_registry
from bufpool_workers.metrics.compaction import compact, compact_if_crowded
from bufpool_workers.metrics.counterfile import CounterFile
from bufpool_workers.metrics.exporter import Endpoint, asgi_app, wsgi_app
from bufpool_workers.metrics.numbers import Numbers, PoolNumbers
from bufpool_workers.metrics.report import (
    EscapePlace,
    ProcessReport,
    Report,
    make_report,
    read_report,
)
from bufpool_workers.metrics.trimming import ask_to_trim

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
    "Numbers",
    "PoolNumbers",
    "ProcessReport",
    "Report",
    "make_report",
    "read_report",
    # serving
    "Endpoint",
    "asgi_app",
    "wsgi_app",
]
