"""What the metrics cost: on a buffer's way, and at a scrape as processes come and go."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MultiProcessValue

import bufpool_workers as bp
from bufpool_workers.metrics import Catalog, CounterFile, compact_above, make_registry
from bufpool_workers.settings import KINDS
from tests.benchmarks.prepared import Names, pools
from tests.benchmarks.report import Table
from tests.benchmarks.timing import Case, measure
from tests.support.counters import make_file

LIVING = (2, 10, 50)
GONE = (0, 100, 1000)
PROMISED_LIVING = 10
PROMISED_GONE = 5000


def counter_file() -> Names:
    """A warm pool that counts in the file that is scraped."""
    names = pools()
    directory = new_directory()
    file = create(directory)
    names["pool"].bind_counters(file.buffer, file.offsets("regular"))
    return names


def counters(*, multiprocess: bool) -> Names:
    """prometheus_client's own counter, with its labels looked up before."""
    # chosen when prometheus_client is imported, which here was long ago
    if multiprocess:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(new_directory())
        prometheus_client.values.ValueClass = MultiProcessValue()
    counter = Counter("gets", "Buffers taken", ["pool", "size"], registry=CollectorRegistry())
    return {"counter": counter, "child": counter.labels("regular", "4kb")}


def new_directory() -> Path:
    """A directory on tmpfs, as a worker makes one, that ends with this process."""
    shm = Path("/dev/shm")  # noqa: S108 - the directory in it is private
    directory = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def create(directory: Path) -> CounterFile:
    labels = bp.current_pools().regular.labels
    return make_file(directory, catalog=Catalog(), pools=dict.fromkeys(KINDS, labels))


def lending() -> Table:
    table = Table("counting", "acquire(4096).release(), which counts six numbers")
    statement = "pool.acquire(4096).release()"
    ours, *rivals = measure(
        [
            Case("counted in the scraped file", statement, counter_file),
            Case("counted in private memory", statement, pools),
            Case("one Counter.inc()", "child.inc()", lambda: counters(multiprocess=False)),
            Case(
                "one Counter.inc(), multiprocess",
                "child.inc()",
                lambda: counters(multiprocess=True),
            ),
            Case(
                "one labels().inc(), multiprocess",
                'counter.labels("regular", "4kb").inc()',
                lambda: counters(multiprocess=True),
            ),
        ],
        rounds=51,
    )
    for rival in rivals:
        table.add(ours, rival, reach=1.03 if rival is rivals[0] else None)
    return table


def after(gone: int, *, merge: bool) -> Path:
    """A directory in which so many processes have counted, and died."""
    directory = new_directory()
    for _ in range(gone):
        create(directory).close()
        if merge:
            compact_above(100, directory)
    return directory


def scrape(living: int, gone: int, *, stock: bool) -> Names:
    """A scrape of the living, ours or prometheus_client's (`stock`), after those who are gone."""
    directory = after(gone, merge=not stock)
    files = [create(directory) for _ in range(living)]
    if stock:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(directory))
    else:
        registry = make_registry(directory)
        generate_latest(registry)  # merges the last hundred
        there = sum(1 for _ in directory.glob("*.db"))
        if there > living + 1:
            raise AssertionError(f"{there} files for {living} processes")
    return {"generate_latest": generate_latest, "registry": registry, "living": files}


def _scrape(name: str, living: int, gone: int, *, stock: bool = False) -> Case:
    return Case(name, "generate_latest(registry)", lambda: scrape(living, gone, stock=stock))


def promised() -> Table:
    table = Table("scrape", f"one scrape of {PROMISED_LIVING} processes")
    late, only = measure(
        [
            _scrape(f"after {PROMISED_GONE} have come and gone", PROMISED_LIVING, PROMISED_GONE),
            _scrape("only the living", PROMISED_LIVING, 0),
        ],
        rounds=15,
    )
    table.add(late, only, reach=1.5)
    return table


def series() -> Table:
    table = Table("scrapes", "one scrape as processes come and go, each with all counters")
    for living in LIVING:
        for gone in GONE:
            ours, stock = measure(
                [
                    _scrape("ours", living, gone),
                    _scrape("prometheus_client's collector", living, gone, stock=True),
                ],
                rounds=11,
            )
            table.add(ours, stock, what=f"{living} living, {gone} gone", at=gone)
    return table


def tables() -> Iterator[Table]:
    yield lending()
    yield promised()
    yield series()
