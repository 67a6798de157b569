"""Counter files: written, merged and read, without prometheus_client."""

from typing import TYPE_CHECKING

from bufpool_workers import _lazy

if TYPE_CHECKING:
    from bufpool_workers.counters import node_file, private_directory
    from bufpool_workers.counters.catalog import (
        DEFAULT_NAMESPACE,
        LOCKED_BYTES,
        SECURE_LEVEL,
        WARMED,
        Catalog,
    )
    from bufpool_workers.counters.compaction import MAX_UNMERGED_FILES, compact, compact_above
    from bufpool_workers.counters.counterfile import CounterFile, TaskPlaces
    from bufpool_workers.counters.forgetting import forget
    from bufpool_workers.counters.report import EscapePlace, ProcessReport, Report
    from bufpool_workers.counters.reporter import make_report, read_report
    from bufpool_workers.counters.tasks import OTHER_TASKS
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
    "OTHER_TASKS",
    "TaskPlaces",
    "ask_to_trim",
    # merging
    "MAX_UNMERGED_FILES",
    "compact",
    "compact_above",
    "forget",
    # reading
    "EscapePlace",
    "ProcessReport",
    "Report",
    "make_report",
    "read_report",
    # directories
    "private_directory",
    "node_file",
]

# a process that only publishes counts nothing
_HOMES = {
    "CounterFile": "counterfile",
    "TaskPlaces": "counterfile",
    "OTHER_TASKS": "tasks",
    "ask_to_trim": "trim_request",
    "forget": "forgetting",
    **dict.fromkeys(("MAX_UNMERGED_FILES", "compact", "compact_above"), "compaction"),
    **dict.fromkeys(("EscapePlace", "ProcessReport", "Report"), "report"),
    **dict.fromkeys(("make_report", "read_report"), "reporter"),
}

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {name: f"{__name__}.{_HOMES.get(name, 'catalog')}" for name in __all__},
    submodules=("node_file", "private_directory"),
)
