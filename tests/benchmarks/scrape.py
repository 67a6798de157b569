"""What a scrape costs, and the page, as processes come and go, beside prometheus_client's own."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from bufpool_workers.metrics import make_registry, wsgi_app
from tests.benchmarks.directories import after, count_users, create
from tests.benchmarks.prepared import Names
from tests.benchmarks.report import Table
from tests.benchmarks.timing import Case, measure

STOCK = "prometheus_client's collector"
LIVING = 10, 200
GONE = 1_000, 20_000
SERIES_LIVING = 2, 10, 50
SERIES_GONE = 0, 100, 1000
ROUNDS = {2: 25, 10: 25, 50: 15, 200: 11}
SPEEDUPS = "prometheus_client_python_speedups"
# they took 435 ms where the stock collector took 217: 0.15 of that
PAGE_REACH = 0.3

Answer = Callable[[], bytes]

has_speedups = importlib.util.find_spec(SPEEDUPS) is not None


def tables() -> Iterator[Table]:
    yield living()
    yield pages()
    yield gone()
    yield series()


def living() -> Table:
    """Compare one scrape of living processes with the stock collector's, text and all."""
    table = Table("scrape_living", "one scrape of living processes, its text included")
    for count in LIVING:
        for has_users in (False, True):
            prepare = partial(directory, count, has_users=has_users)
            ours, registry, stock, *others = measure(
                [
                    case("over HTTP", endpoint, prepare),
                    case("by generate_latest", our_registry, prepare),
                    case(STOCK, stock_registry, prepare),
                    *([case(f"{STOCK} with speedups", speedups, prepare)] if has_speedups else []),
                ],
                rounds=ROUNDS[count],
            )
            what = f"{count} living" + (", with metrics of the user's" if has_users else "")
            table.add(ours, stock, what=what, reach=0.15)
            table.add(registry, stock, what=f"{what}, by generate_latest")
            for other in others:
                table.add(ours, other, what=what)
                table.add(other, stock, what=f"{what}, with speedups, without ours")
    if not has_speedups:
        table.notes.append(f"{SPEEDUPS} is left out: no wheel of it installs on this Python")
    return table


def pages() -> Table:
    """Compare the page and its numbers with the stock collector's scrape."""
    count = max(LIVING)
    table = Table("scrape_pages", f"the page of {count} living processes, and its numbers")
    prepare = partial(directory, count, has_users=False)
    page, numbers, stock = measure(
        [
            case("page", partial(endpoint, at="/"), prepare),
            case("status.json", partial(endpoint, at="/status.json"), prepare),
            case(STOCK, stock_registry, prepare),
        ],
        rounds=ROUNDS[count],
    )
    for timing in (page, numbers):
        table.add(timing, stock, reach=PAGE_REACH)
    return table


def gone() -> Table:
    """Compare a scrape after many processes have come and gone with that of the living alone."""
    count = min(LIVING)
    table = Table("scrape_gone", f"one scrape of {count} processes when others have come and gone")
    only, *late = measure(
        [
            case(f"{number} gone" if number else "only the living", endpoint, partial(left, number))
            for number in (0, *GONE)
        ],
        rounds=ROUNDS[count],
    )
    for timing in late:
        table.add(timing, only, what=f"{count} living, {timing.name}", reach=1.1)
    return table


def series() -> Table:
    """Compare the two as processes come and go, for a picture."""
    table = Table("scrapes", "one scrape as processes come and go, each with all counters")
    for count in SERIES_LIVING:
        for number in SERIES_GONE:
            ours, stock = measure(
                [
                    case("ours", our_registry, partial(left, number, count)),
                    case(STOCK, stock_registry, partial(left, number, count, merge=False)),
                ],
                rounds=11,
            )
            table.add(ours, stock, what=f"{count} living, {number} gone", at=number)
    return table


def case(name: str, answers: Callable[[Path], Answer], prepare: Callable[[], Any]) -> Case:
    """A case that asks once and again: what it keeps from one scrape to the next counts."""

    def setup() -> Names:
        path, files = prepare()
        answer = answers(path)
        answer()  # merges the last ones
        return {"answer": answer, "living": files}

    return Case(name, "answer()", setup)


def directory(count: int, *, has_users: bool) -> tuple[Path, Any]:
    path, files = left(0, count)
    for process in range(1, count + 1):
        if has_users:
            count_users(path, process=process)
    return path, files


def left(gone: int, living: int = 10, *, merge: bool = True) -> tuple[Path, Any]:
    path = after(gone, merge=merge)
    return path, [create(path) for _ in range(living)]


def endpoint(path: Path, *, at: str = "/metrics") -> Answer:
    app = wsgi_app(path)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": at, "QUERY_STRING": "", "SCRIPT_NAME": ""}

    def get() -> bytes:
        answers: list[str] = []
        body = b"".join(app(dict(environ), lambda status, _headers: answers.append(status)))
        if not body or not answers[0].startswith("200"):
            raise AssertionError(f"{at}: {answers}")
        return body

    return get


def our_registry(path: Path) -> Answer:
    return partial(generate_latest, make_registry(path))


def stock_registry(path: Path) -> Answer:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(path))
    return partial(generate_latest, registry)


def speedups(path: Path) -> Answer:
    """prometheus_client's collector with its files read and merged by its optional Rust."""
    merge = importlib.import_module(SPEEDUPS).merge

    class Merged:
        def collect(self) -> Iterable[Metric]:
            for found in merge([str(file) for file in path.glob("*.db")]):
                metric = Metric("_", found.documentation, found.typ)
                metric.name = found.name
                metric.samples = [Sample(s.name, s.labels, s.value) for s in found.samples]
                yield metric

    return partial(generate_latest, Merged())  # type: ignore[arg-type]  # all that it asks of one
