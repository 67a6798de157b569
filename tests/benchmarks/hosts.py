"""Job systems other than Celery: what a job's body gains, what an adapter costs, their scrape."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from redis import Redis
from rq import Queue

import bufpool_workers as bp
from bufpool_workers import futures, metrics
from tests.benchmarks import host_adapters
from tests.benchmarks.report import Table, duration
from tests.benchmarks.timing import Case, Timing, measure
from tests.support.host_process import FOLDER
from tests.support.redis_server import RedisServer

JOBS = 400
SETTINGS = {"warm": {"regular": {"1MiB": 2, "4MiB": 2}}}


def tables() -> Iterator[Table]:
    """Compare each host's jobs with and without pools, and the scrape of short-lived processes."""
    yield executors()
    yield horses()
    yield from host_adapters.tables()


# executors


def fill_bytearrays(nbytes: int) -> None:
    first, second = bytearray(nbytes), bytearray(nbytes)
    _fill(first, second)


def _fill(first: Any, second: Any) -> None:
    np.frombuffer(first, dtype=np.uint8)[:] = 1
    np.frombuffer(second, dtype=np.uint8)[:] = 2


def scale_arrays(nbytes: int) -> float:
    """Scale a numpy array into another, both of the job's own."""
    return _scale(np.ones(nbytes // 8), np.empty(nbytes // 8))


def _scale(first: np.ndarray, second: np.ndarray) -> float:
    np.multiply(first, 2.0, out=second)
    return float(second[-1])


@bp.pooled_buffer(lambda nbytes: nbytes, name="first")
@bp.pooled_buffer(lambda nbytes: nbytes, name="second")
def fill_buffers(nbytes: int, *, first: bp.Buffer, second: bp.Buffer) -> None:
    _fill(first, second)


@bp.pooled_buffer(lambda nbytes: nbytes, name="first")
@bp.pooled_buffer(lambda nbytes: nbytes, name="second")
def scale_buffers(nbytes: int, *, first: bp.Buffer, second: bp.Buffer) -> float:
    ones = np.frombuffer(first, dtype=np.float64)
    ones[:] = 1.0
    return _scale(ones, np.frombuffer(second, dtype=np.float64))


def nothing(_nbytes: int) -> None:
    """Use no buffer."""


def executors() -> Table:
    table = Table("hosts_executors", "the body of a job in a process of an executor")
    for what, plain, pooled, nbytes, reach in (
        ("two arrays of 1 MiB, filled", fill_bytearrays, fill_buffers, bp.MiB, 0.5),
        ("two numpy arrays of 4 MiB, scaled", scale_arrays, scale_buffers, 4 * bp.MiB, None),
    ):
        rival, ours = bodies({"memory of its own": plain, "pooled": pooled}, nbytes=nbytes)
        table.add(ours, rival, what=what, reach=reach)
    rival, ours = bodies({"called": nothing, "as_job": futures.as_job(nothing)}, nbytes=0)
    table.add(ours, rival, what="a job that uses nothing")
    table.notes.append(
        f"as_job costs a job that uses nothing {duration(ours.median - rival.median)} (reach: 5 us)"
    )
    return table


def bodies(functions: Mapping[str, Callable[[int], Any]], *, nbytes: int) -> list[Timing]:
    return measure(
        [
            Case(name, "body(nbytes)", partial(start, body=function, nbytes=nbytes))
            for name, function in functions.items()
        ]
    )


def start(**names: Any) -> Mapping[str, Any]:
    """Begin as a process of an executor does."""
    futures.start_process(SETTINGS)
    return names


# RQ: a process for each job


def horses() -> Table:
    """Scrape what real jobs of RQ left behind."""
    table = Table("hosts_scrape", f"a scrape after {JOBS} jobs of RQ, each in a process of its own")
    with tempfile.TemporaryDirectory() as folder:
        left, merged = Path(folder, "left"), Path(folder, "merged")
        left.mkdir()
        run_jobs(left)
        shutil.copytree(left, merged)
        files = len(list(left.glob("*.db")))
        stock, ours = measure(
            [
                Case("prometheus_client's collector", "scrape()", partial(with_stock, left)),
                Case("bufpool serve", "scrape()", partial(with_ours, merged)),
            ]
        )
        table.add(ours, stock)
        table.notes.append(
            f"{files} files; {len(list(merged.glob('*.db')))} after our first scrape"
        )
    return table


def run_jobs(directory: Path) -> None:
    env = {"PROMETHEUS_MULTIPROC_DIR": str(directory), "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, str(Path(sys.executable).parent / "rq"), "worker", "--burst"]
    with RedisServer() as server, Redis.from_url(url := server.client_url()) as client:
        queue = Queue(connection=client)
        for number in range(JOBS):
            queue.enqueue("counting_jobs.work", number)
        subprocess.run(
            [*command, "--quiet", "--url", url], env=os.environ | env, cwd=FOLDER, check=True
        )


def with_stock(directory: Path) -> Mapping[str, Any]:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(directory))
    return {"scrape": partial(generate_latest, registry)}


def with_ours(directory: Path) -> Mapping[str, Any]:
    app = metrics.wsgi_app(directory, compact_foreign=True)
    environ = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "QUERY_STRING": ""}
    return {"scrape": lambda: app(environ, lambda _status, _headers: None)}
