"""Job systems other than Celery: what a job's body gains, what an adapter costs, their scrape."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from redis import Redis
from rq import Queue

import bufpool_workers as bp
from bufpool_workers import futures, metrics
from tests.benchmarks import host_adapters
from tests.benchmarks.host_adapters import in_turns
from tests.benchmarks.report import Table, duration
from tests.benchmarks.timing import Case, Timing, measure
from tests.support.host_process import FOLDER
from tests.support.redis_server import RedisServer

JOBS = 400
SETTINGS = {"warm": {"regular": {"1MiB": 2, "4MiB": 2}}}
ROOT = Path(__file__).parents[2]


def tables() -> Iterator[Table]:
    """Compare each host's jobs with and without pools, and the scrape of short-lived processes."""
    yield executors()
    yield horses()
    yield from host_adapters.tables()


# executors


def executors() -> Table:
    table = Table("hosts_executors", "the body of a job in a process of an executor")
    filled = "two arrays of 1 MiB, filled"
    for what, work, nbytes, freed, reach in (
        (filled, ("fill_bytearrays", "fill_buffers"), bp.MiB, 0, 0.5),
        (
            f"{filled}; 4 MiB freed before",
            ("fill_bytearrays", "fill_buffers"),
            bp.MiB,
            4 * bp.MiB,
            None,
        ),
        (
            "two numpy arrays of 4 MiB, scaled",
            ("scale_arrays", "scale_buffers"),
            4 * bp.MiB,
            0,
            None,
        ),
    ):
        rival, ours = in_turns([partial(run_program, name, nbytes, freed) for name in work])
        table.add(
            Timing("pooled", ours), Timing("memory of its own", rival), what=what, reach=reach
        )
    cases = [
        Case(name, "body(0)", partial(start, body=body))
        for name, body in (("called", nothing), ("as_job", futures.as_job(nothing)))
    ]
    rival, ours = measure(cases)
    table.add(ours, rival, what="a job that uses nothing")
    cost = duration(ours.median - rival.median)
    table.notes += [
        "each body in new processes of ProcessPoolExecutor (spawn), in turns; its own thread time",
        f"as_job costs a job that uses nothing {cost} (reach: 5 us)",
    ]
    return table


def run_program(name: str, nbytes: int, freed: int) -> list[float]:
    """Run a program whose executor is new; return the seconds of each job's body."""
    command = [sys.executable, "-m", "tests.benchmarks.executor_jobs", name]
    command += [str(number) for number in (nbytes, JOBS // 4, freed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return [float(seconds) for seconds in json.loads(done.stdout)]


def nothing(_nbytes: int) -> None:
    """Use no buffer."""


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
