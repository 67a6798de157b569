"""`python -m tests.benchmarks.figures`: writes the tables of figures in the pages from the record.

A page holds a table between `<!-- figures: NAME -->` and `<!-- end of figures -->`. All of its
figures are of the one run in tests/benchmarks/record (beside Go: in its folder go), so that they
can't drift apart.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import record
from tests.benchmarks.others import OTHERS
from tests.benchmarks.report import UNITS, Row, Table
from tests.support.pages import read_pages

RECORD = Path(__file__).with_name("record")
_FEW = 0.2  # below, a ratio reads better as 1 : n
_HEADS = "pooled | otherwise | ratio | middle half"
_MONITOR_HEADS = "with it | worker alone | ratio | spread"
_PLACE = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


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
FIGURES: Mapping[str, Sequence[Figure]] = {
    "short": _SHORT,
    "more": (*_MORE, *_GO),
    "monitors": _MONITORS,
}


def main() -> None:
    """Write the tables of all pages."""
    tables = recorded()
    for page in read_pages():
        page.path.write_text(filled(page.text, tables), encoding="utf-8")


def recorded() -> list[Table]:
    """Return the tables of the recorded runs, that beside Go included."""
    return [*record.load(RECORD), *record.load(RECORD / "go")]


def filled(text: str, tables: Sequence[Table]) -> str:
    """Return a page's text with its tables as the record has them."""
    return _PLACE.sub(
        lambda found: (
            f"{found[1]}\n" + "\n".join(table_lines(found[2], tables)) + f"\n\n{found[3]}"
        ),
        text,
    )


def table_lines(name: str, tables: Sequence[Table]) -> Iterator[str]:
    """Return the lines of a table; LookupError names a row that the record does not have."""
    if name == "others":
        return compared(tables)
    heads = _MONITOR_HEADS if name == "monitors" else _HEADS
    return lines(FIGURES[name], tables, heads=heads)


def compared(tables: Sequence[Table]) -> Iterator[str]:
    """Return the lines of the table that says what others do, with a figure each where one fits."""
    yield "| beside | what only it does | what only this package does | this package : it |"
    yield "|---|---|---|---|"
    for other in OTHERS:
        cells = []
        for label, *place in other.figures:
            row = find(Figure(label, *place), tables)
            show = UNITS[row.unit]
            cells.append(f"{label}: {show(row.value)} : {show(row.rival_value)}")
        yield f"| {other.name} | {other.theirs} | {other.ours} | {'; '.join(cells)} |"


def lines(
    figures: Sequence[Figure], tables: Sequence[Table], *, heads: str = _HEADS
) -> Iterator[str]:
    """Return the lines of a table of figures."""
    yield f"| | {heads} |"
    yield "|---|---|---|---|---|"
    for figure in figures:
        row = find(figure, tables)
        show = UNITS[row.unit]
        low, high = (row.high, row.low) if row.ratio < _FEW else (row.low, row.high)
        spread = "" if low == high else f"{number(low, row.ratio)} to {number(high, row.ratio)}"
        ratio = ("1 : " if row.ratio < _FEW else "") + number(row.ratio, row.ratio)
        cells = figure.label, show(row.value), show(row.rival_value), ratio, spread
        yield f"| {' | '.join(cells)} |"


def number(ratio: float, beside: float) -> str:
    """Return a ratio as text; where that `beside` it is small, how often it goes into one."""
    return f"{ratio:.2f}" if beside >= _FEW else f"{1 / ratio:.3g}"


def find(figure: Figure, tables: Sequence[Table]) -> Row:
    for table in tables:
        for row in table.rows:
            if (table.name, row.what, row.rival) == (figure.table, figure.what, figure.rival):
                return row
    raise LookupError(
        f"the record has no {figure.what!r} against {figure.rival!r} in {figure.table}"
    )


if __name__ == "__main__":
    main()
