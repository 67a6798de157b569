"""What people use instead, or beside: the rows of the table that compares them.

Each figure names its row of the record: a table, what was measured, and against which rival.
"""

from typing import NamedTuple


class Other(NamedTuple):
    """A row: a neighbour, what only it does, what only this package does, and figures."""

    name: str
    theirs: str
    ours: str
    figures: tuple[tuple[str, str, str, str], ...]


_TWO = ("two buffers of 1 MiB", "two", "two buffers")
_ONE_SCRAPE = ("scrape of 10 processes", "scrapes", "10 living, 0 gone")
_TASK = ("a task, worker and monitor", "monitors", "plugin, one pooled buffer")
_MEMORY = ("memory of both", "monitor_memory", "plugin")

OTHERS = (
    Other(
        "`bytearray`, `bytes`",
        "needs nothing; is as quick for a few KiB, and for one buffer at a time",
        "memory is warm before the first task, bounded, and wiped where that is asked for",
        (
            ("4 KiB", "one", "with buffer(4KiB)", "bytearray(4KiB)"),
            (*_TWO, "two bytearrays"),
        ),
    ),
    Other(
        "`mallopt` (`bufpool_tune_malloc`)",
        "helps all code of the process, libraries too, and nothing has to be rewritten",
        "zeroes nothing first; works above 32 MiB and for the first task; bounds and counts",
        ((*_TWO, "two bytearrays after mallopt"),),
    ),
    Other(
        "`numpy.empty`",
        "makes arrays of any shape; is a little quicker for one array at a time",
        "keeps several buffers warm at once; has one limit for all; names who leaks",
        (("1 MiB, each page touched", "touched", "with buffer(1MiB)", "numpy.empty"),),
    ),
    Other(
        "Go's `sync.Pool` by size class, the model of this package",
        "is quicker for regular memory, since compiled code calls it",
        "never lends memory that still has views; survives a fork; counts exactly over processes",
        (
            ("regular", "go", "regular", "Go, regular"),
            ("secure", "go", "secure", "Go, secure"),
            ("random", "go", "random", "Go, random"),
        ),
    ),
    Other(
        "libsodium's `sodium_malloc`",
        "puts guard pages around each allocation; makes it read-only or inaccessible on request",
        "pools secure memory; uses memfd_secret where the kernel has it; wipes when the task ends",
        (("64 B", "secure_sizes", "secure_buffer(64B)", "sodium_malloc, sodium_free"),),
    ),
    Other(
        "prometheus_client's multiprocess mode",
        "counts whatever you define, in any program",
        "merges the files of dead processes, exactly; no counter steps back when a file goes",
        (
            (*_ONE_SCRAPE, "prometheus_client's collector"),
            (
                "and 1,000 dead ones",
                "scrapes",
                "10 living, 1000 gone",
                "prometheus_client's collector",
            ),
        ),
    ),
    Other(
        "Flower",
        "shows each task live, with its arguments and its result; revokes tasks, controls workers",
        "shows memory inside workers; needs no events and no process of its own",
        ((*_TASK, "events, and Flower"), (*_MEMORY, "events, and Flower")),
    ),
    Other(
        "celery-exporter, celery-prometheus-exporter",
        "counts tasks by state and name, their runtimes, and queue lengths",
        "shows memory inside workers; needs no events and no process of its own",
        (
            (*_TASK, "events, and celery-prometheus-exporter"),
            (*_MEMORY, "events, and celery-prometheus-exporter"),
        ),
    ),
)
