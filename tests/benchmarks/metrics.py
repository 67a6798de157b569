"""What the metrics cost: on a buffer's way, and at a scrape after thousands of processes."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

import bufpool_workers as bp
from bufpool_workers.metrics import Catalog, CounterFile, compact_if_crowded, make_registry
from bufpool_workers.settings import KINDS

from .report import Table
from .timing import Case, measure

LIVING = 10
GONE = 5000


def private_memory() -> Mapping[str, Any]:
    """A warm pool that counts in memory of its own."""
    bp.memory.configure(bp.Settings)
    bp.current_pools().warm()
    return {"pool": bp.current_pools().regular}


def counter_file() -> Mapping[str, Any]:
    """The same, counting in the file that is scraped."""
    directory, pool = new_directory(), private_memory()["pool"]
    file = create(directory)
    pool.bind_counters(file.buffer, file.offsets("regular"))
    return {"pool": pool}


def new_directory() -> Path:
    """A directory on tmpfs, as a worker makes one, that ends with this process."""
    shm = Path("/dev/shm")  # noqa: S108 - the directory in it is private
    directory = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def create(directory: Path) -> CounterFile:
    labels = bp.current_pools().regular.labels
    return CounterFile.create(directory, catalog=Catalog(), pools=dict.fromkeys(KINDS, labels))


def after(gone: int, *, merge: bool = True) -> Path:
    """A directory in which so many processes have counted, and died."""
    directory = new_directory()
    for _ in range(gone):
        create(directory).close()
        if merge:
            compact_if_crowded(directory)
    return directory


def living_in(directory: Path, *, stock: bool = False) -> Mapping[str, Any]:
    """A scrape of the living, ours or prometheus_client's (`stock`), after whoever was before."""
    living = [create(directory) for _ in range(LIVING)]
    if stock:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(directory))
    else:
        registry = make_registry(directory)
        generate_latest(registry)  # merges the last hundred
        files = sum(1 for _ in directory.iterdir())
        if files > LIVING + 2:
            raise AssertionError(f"{files} files for {LIVING} processes")
    return {"generate_latest": generate_latest, "registry": registry, "living": living}


def tables() -> Iterator[Table]:
    """Both tables."""
    lending = Table("acquire(4096).release(), counted")
    on, off = measure(
        [
            Case("in the scraped file", "pool.acquire(4096).release()", counter_file),
            Case("in private memory", "pool.acquire(4096).release()", private_memory),
        ],
        rounds=51,
    )
    lending.add(on, off, reach=1.03)
    yield lending

    statement = "generate_latest(registry)"
    scrapes = Table(f"one scrape of {LIVING} processes, each with all counters of three pools")
    many, few = after(GONE), after(200, merge=False)
    late, living, stock, stock_late = measure(
        [
            Case(f"after {GONE} have come and gone", statement, lambda: living_in(many)),
            Case("only the living", statement, lambda: living_in(new_directory())),
            Case(
                "prometheus_client, only the living",
                statement,
                lambda: living_in(new_directory(), stock=True),
            ),
            Case("prometheus_client, after 200", statement, lambda: living_in(few, stock=True)),
        ],
        rounds=15,
    )
    scrapes.add(late, living, reach=1.5)
    scrapes.add(living, stock)
    scrapes.add(stock_late, stock)
    yield scrapes
