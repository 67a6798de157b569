"""The tables of figures in the pages, from the record.

All figures of the pages are of the one run in tests/benchmarks/record (beside Go: in its folder
go). tests/docs/figures.py writes them into the pages.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import record
from tests.benchmarks.others import OTHERS
from tests.benchmarks.report import UNITS, Row, Table

RECORD = Path(__file__).with_name("record")
_FEW = 0.2  # below, a ratio reads better as 1 : n
_HEADS = "pooled | otherwise | ratio | middle half"
_MONITOR_HEADS = "with it | worker alone | ratio | spread"


class Figure(NamedTuple):
    """A row: how the pages call it, and where it stands in the record."""

    label: str
    table: str
    what: str
    rival: str


TWO = "two buffers of 1 MiB held together, every page touched, against bytearrays"
SCRAPE = "one scrape of 10 processes when 1,000 have come and gone, against prometheus_client's"
_TWO, _BUFFERS = "two", "two buffers"
_STOCK = "prometheus_client's collector"
_SHORT = (
    Figure(TWO, _TWO, _BUFFERS, "two bytearrays"),
    Figure(
        "the same, in a process that has freed a larger block before",
        _TWO,
        _BUFFERS,
        "two bytearrays, one of 4MiB freed before",
    ),
    Figure(
        "the first task of a fresh child, which fills two arrays of 1 MiB",
        "first_task",
        "body, median",
        "without",
    ),
    Figure(
        "one buffer of 4 KiB in a `with`, against a bytearray",
        "one",
        "with buffer(4KiB)",
        "bytearray(4KiB)",
    ),
    Figure(
        "`secure_buffer(64)`, against libsodium's `sodium_malloc` and `sodium_free`",
        "secure_sizes",
        "secure_buffer(64B)",
        "sodium_malloc, sodium_free",
    ),
    Figure(SCRAPE, "scrapes", "10 living, 1000 gone", _STOCK),
)
_MORE = (
    Figure("one scrape of 10 processes, none gone", "scrapes", "10 living, 0 gone", _STOCK),
    Figure(
        "two buffers of 1 MiB, against bytearrays after `mallopt` (`bufpool_tune_malloc`)",
        _TWO,
        _BUFFERS,
        "two bytearrays after mallopt",
    ),
    Figure(
        "`with buffer(n)`, against `bytearray(n)`, 64 KiB",
        "one",
        "with buffer(64KiB)",
        "bytearray(64KiB)",
    ),
    Figure("1 MiB", "one", "with buffer(1MiB)", "bytearray(1MiB)"),
    Figure(
        "`acquire(4096).release()`, against `bytearray(4096)`",
        "one",
        "acquire(4096).release()",
        "bytearray(4096)",
    ),
    Figure(
        "one buffer of 1 MiB, every page touched, against `numpy.empty`",
        "touched",
        "with buffer(1MiB)",
        "numpy.empty",
    ),
    Figure(
        "warm-up of 64 MiB, against touching 4 KiB pages one by one",
        "warm_up",
        "four buffers of 16 MiB",
        "pages of 4 KiB one by one",
    ),
    Figure(
        "a task that fills two arrays of 1 MiB, through a worker",
        "throughput",
        "a task that fills two arrays of 1 MiB",
        "without",
    ),
    Figure(
        "a task that does nothing, through a worker",
        "throughput",
        "a task that does nothing",
        "without",
    ),
    Figure(
        "memory of that worker with two children", "worker_memory", "with the plugin", "without"
    ),
    Figure("secure 4 KiB, against regular", "secure", "secure 4KiB", "regular 4KiB"),
    Figure(
        "`random_buffer(4096)`, against `os.urandom(4096)`",
        "random_sizes",
        "random_buffer(4KiB)",
        "os.urandom",
    ),
    Figure(
        "a secret of 32 bytes sealed, against cryptography's own HPKE",
        "sealing",
        "seal",
        "HPKE encrypt",
    ),
    Figure("opened", "sealing", "unseal", "HPKE decrypt"),
    Figure(
        "counting in the scraped file, against private memory",
        "counting",
        "counted in the scraped file",
        "counted in private memory",
    ),
)
_GO = (
    Figure("get and put of 4 KiB, against Go's sync.Pool, regular", "go", "regular", "Go, regular"),
    Figure("secure", "go", "secure", "Go, secure"),
    Figure("random", "go", "random", "Go, random"),
)
_MONITORS = (
    *(
        Figure(f"a task, {label}", "monitors", what, "worker alone")
        for label, what in (
            ("and a pooled buffer in it", "plugin, one pooled buffer"),
            ("events on, nobody listens", "events, nobody listens"),
            ("and Flower", "events, and Flower"),
            ("and celery-prometheus-exporter", "events, and celery-prometheus-exporter"),
        )
    ),
    *(
        Figure(f"memory of the worker, {label}", "monitor_memory", what, "worker alone")
        for label, what in (
            ("and the plugin's warm buffers", "plugin"),
            ("and Flower", "events, and Flower"),
            ("and celery-prometheus-exporter", "events, and celery-prometheus-exporter"),
        )
    ),
)

_OWN = "memory of its own"
_HOSTS = (
    Figure(
        "an executor's job: two numpy arrays of 4 MiB, scaled",
        "hosts_executors",
        "two numpy arrays of 4 MiB, scaled",
        _OWN,
    ),
    Figure("two arrays of 1 MiB, filled", "hosts_executors", "two arrays of 1 MiB, filled", _OWN),
    Figure(
        "the same in a process that has freed a larger block before",
        "hosts_executors",
        "two arrays of 1 MiB, filled; 4 MiB freed before",
        _OWN,
    ),
    Figure(
        "two arrays of 1 MiB in a job of RQ's SimpleWorker",
        "hosts",
        "RQ SimpleWorker: two buffers",
        "two bytearrays",
    ),
    Figure(
        "the same in an actor of Dramatiq, off the main thread",
        "hosts",
        "Dramatiq actor: two buffers",
        "two bytearrays",
    ),
)


@cache
def recorded() -> tuple[Table, ...]:
    """Return the tables of the recorded runs, that beside Go included."""
    return (*record.load(RECORD), *record.load(RECORD / "go"))


def table(name: str) -> Table:
    """Return a table of the recorded runs; LookupError names one that the record does not have."""
    for each in recorded():
        if each.name == name:
            return each
    raise LookupError(f"the record has no table {name}")


def find(figure: Figure) -> Row:
    """Return a row of the record; LookupError names one that it does not have."""
    for each in recorded():
        for row in each.rows:
            if (each.name, row.what, row.rival) == (figure.table, figure.what, figure.rival):
                return row
    raise LookupError(
        f"the record has no {figure.what!r} against {figure.rival!r} in {figure.table}"
    )


def compared() -> Iterator[str]:
    """Return the lines of the table that says what others do, with a figure each where one fits."""
    yield "| beside | what only it does | what only this package does | this package : it |"
    yield "|---|---|---|---|"
    for other in OTHERS:
        cells = []
        for label, *place in other.figures:
            row = find(Figure(label, *place))
            cells.append(f"{label}: {value(row)} : {rival_value(row)}")
        yield f"| {other.name} | {other.theirs} | {other.ours} | {'; '.join(cells)} |"


def lines(figures: Sequence[Figure], *, heads: str = _HEADS) -> Iterator[str]:
    """Return the lines of a table of figures."""
    yield f"| | {heads} |"
    yield "|---|---|---|---|---|"
    for figure in figures:
        row = find(figure)
        low, high = (row.high, row.low) if row.ratio < _FEW else (row.low, row.high)
        spread = "" if low == high else f"{number(low, row.ratio)} to {number(high, row.ratio)}"
        ratio = ("1 : " if row.ratio < _FEW else "") + number(row.ratio, row.ratio)
        yield f"| {' | '.join((figure.label, value(row), rival_value(row), ratio, spread))} |"


def value(row: Row) -> str:
    """Return a row's value as text."""
    return UNITS[row.unit](row.value)


def rival_value(row: Row) -> str:
    """Return the value of a row's rival as text."""
    return UNITS[row.unit](row.rival_value)


def number(ratio: float, beside: float) -> str:
    """Return a ratio as text; where that `beside` it is small, how often it goes into one."""
    return f"{ratio:.2f}" if beside >= _FEW else f"{1 / ratio:.3g}"


TABLES: Mapping[str, Callable[[], Iterator[str]]] = {
    "short": partial(lines, _SHORT),
    "more": partial(lines, (*_MORE, *_GO)),
    "monitors": partial(lines, _MONITORS, heads=_MONITOR_HEADS),
    "hosts": partial(lines, _HOSTS),
    "others": compared,
}
