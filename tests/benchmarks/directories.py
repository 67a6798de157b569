"""Metrics directories to scrape: of processes that count, that are gone, and of users' metrics."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, metrics

import bufpool_workers as bp
from bufpool_workers.metrics import Catalog, CounterFile, compact_above
from bufpool_workers.settings import KINDS
from tests.support.counters import close_metric_files, make_file, values_of_process

USERS_COUNTERS, USERS_HISTOGRAMS = 100, 2
_SERIES_OF_A_HISTOGRAM = 16  # fifteen buckets and the sum


def new_directory() -> Path:
    """A directory on tmpfs, as a worker makes one, that ends with this process."""
    shm = Path("/dev/shm")  # noqa: S108 - the directory in it is private
    directory = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def create(directory: Path) -> CounterFile:
    labels = bp.current_pools().regular.labels
    return make_file(directory, catalog=Catalog(), pools=dict.fromkeys(KINDS, labels))


def after(gone: int, *, merge: bool) -> Path:
    """A directory in which so many processes have counted, and died."""
    directory = new_directory()
    for _ in range(gone):
        create(directory).close()
        if merge:
            compact_above(100, directory)
    return directory


def count_users(directory: Path, *, process: int) -> None:
    """Count in a process's files as an app with metrics of its own does."""
    registry = _count_as(process, directory)
    for number in range(USERS_COUNTERS):
        Counter(f"app_{number}", "Of the user's", registry=registry).inc(number)
    for number in range(USERS_HISTOGRAMS):
        Histogram(f"app_{number}_seconds", "Of the user's", registry=registry).observe(process % 7)
    close_metric_files()


def many_series(count: int, *, files: int) -> Path:
    """A directory of so many series that no two processes share: half of them counters."""
    directory = new_directory()
    each = count // files
    for process in range(1, files + 1):
        registry = _count_as(process, directory)
        counter = Counter("app_calls", "Calls", ["user"], registry=registry)
        gauge = Gauge("app_level", "Level", ["user"], registry=registry, multiprocess_mode="max")
        histogram = Histogram("app_seconds", "Seconds", ["user"], registry=registry)
        for number in range(each // 2):
            counter.labels(f"{process}-{number}").inc(number)
        for number in range(each // 4):
            gauge.labels(f"{process}-{number}").set(number)
        for number in range(each // 4 // _SERIES_OF_A_HISTOGRAM):
            histogram.labels(f"{process}-{number}").observe(number % 7)
    close_metric_files()
    return directory


def _count_as(process: int, directory: Path) -> CollectorRegistry:
    # chosen when prometheus_client is imported, which here was long ago
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    metrics.values.ValueClass = values_of_process(lambda: process)
    return CollectorRegistry()
