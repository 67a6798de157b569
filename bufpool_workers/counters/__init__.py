"""Counter files: written, merged and read, without prometheus_client."""

from bufpool_workers.counters.catalog import (
    DEFAULT_NAMESPACE,
    LOCKED_BYTES,
    SECURE_LEVEL,
    WARMED,
    Catalog,
)
from bufpool_workers.counters.compaction import MAX_UNMERGED_FILES, compact, compact_above
from bufpool_workers.counters.counterfile import CounterFile
from bufpool_workers.counters.report import (
    EscapePlace,
    ProcessReport,
    Report,
    make_report,
    read_report,
)
from bufpool_workers.counters.trim_request import ask_to_trim

__all__ = [  # noqa: RUF022 - grouped by topic
    # names
    "Catalog",
    "DEFAULT_NAMESPACE",
    "LOCKED_BYTES",
    "SECURE_LEVEL",
    "WARMED",
    # counting
    "CounterFile",
    "ask_to_trim",
    # merging
    "MAX_UNMERGED_FILES",
    "compact",
    "compact_above",
    # reading
    "EscapePlace",
    "ProcessReport",
    "Report",
    "make_report",
    "read_report",
]
