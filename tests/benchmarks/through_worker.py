"""Through a real prefork worker on a real Redis: what a task costs and gains."""

import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from celery.app.trace import build_tracer
from celery.result import ResultSet

import bufpool_workers as bp
from tests.support.celery_worker import CeleryWorker
from tests.support.redis_server import RedisServer

from .report import Row, Table, duration
from .timing import Case, Timing, measure

BATCH = 100
MEASURED_SECONDS = 20
LEAST_ROUNDS = 9
FRESH = 6  # Celery replaces an ended child after up to five seconds
STEADY = 150
PERCENTILES = {"median": 0.5, "95 %": 0.95, "worst": 1.0}
_WAIT_SECONDS = 120


@contextmanager
def worker(redis: RedisServer, *arguments: str, plugin: bool = True) -> Iterator[CeleryWorker]:
    with tempfile.TemporaryDirectory() as folder:
        process = CeleryWorker(
            "worker_app:app",
            broker=redis.celery_url(),
            folder=Path(__file__).parent,
            log=Path(folder) / "log",
            arguments=["--loglevel=WARNING", *arguments],
            env={"BENCHMARK_PLUGIN": str(int(plugin))},
        )
        try:
            yield process.wait_ready()
        finally:
            process.close()


def run_batch(process: CeleryWorker, task: str, count: int) -> None:
    pending = [process.send(f"worker_app.{task}", number) for number in range(count)]
    ResultSet(pending, app=process.client).get(timeout=_WAIT_SECONDS)


def processor_seconds(process: CeleryWorker) -> float:
    """What all processes of a worker got of the processors so far, to the nanosecond."""
    parent = psutil.Process(process.pid)
    pids = [parent.pid, *(child.pid for child in parent.children(recursive=True))]
    spent = [Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii") for pid in pids]
    return sum(int(each.split()[0]) for each in spent) * 1e-9


def decorated() -> Table:
    """The decorator's cost, which is lost in the noise; an equal task shows how much that is."""
    table = Table(f"a task that does nothing through a real worker, batches of {BATCH} in turns")
    tasks = ["plain", "plain_again", "decorated"]
    times: dict[str, list[float]] = {task: [] for task in tasks}
    with RedisServer() as redis, worker(redis, "--concurrency=1") as process:
        for task in tasks:
            run_batch(process, task, BATCH)
        end = time.monotonic() + MEASURED_SECONDS
        while time.monotonic() < end or len(times["plain"]) < LEAST_ROUNDS:
            for task in random.sample(tasks, len(tasks)):
                before = processor_seconds(process)
                run_batch(process, task, BATCH)
                times[task].append((processor_seconds(process) - before) / BATCH)
    plain, again, ours = (Timing(task, times[task]) for task in tasks)
    table.add(again, plain, what="the same task once more: the noise", interval=True)
    table.add(ours, plain, interval=True, reach=1.01)
    rounds = len(plain.seconds)
    table.notes.append(
        f"processor time of all of the worker's processes, {rounds} rounds; spread: where the "
        "median lies with 95 % confidence"
    )
    _add_traced(table, plain.median)
    return table


def _add_traced(table: Table, whole_seconds: float) -> None:
    """Time Celery's own tracer of the two tasks, without a broker: finer by far."""
    plain, ours = measure(
        [
            Case("plain, traced", "trace('id', (1,), {})", lambda: tracer("plain")),
            Case("decorated, traced", "trace('id', (1,), {})", lambda: tracer("decorated")),
        ],
        rounds=51,
    )
    table.add(ours, plain)
    share = (ours.median - plain.median) / whole_seconds
    table.notes.append(
        f"traced: Celery's own call of the task in the child, no broker; what the decorator adds "
        f"there, {duration(ours.median - plain.median)}, is {share:.2%} of the whole task"
    )


def tracer(task: str) -> Mapping[str, Any]:
    from . import worker_app  # noqa: PLC0415 - wires its plugin in: in the case's process only

    bp.current_pools().warm()
    return {"trace": build_tracer(task, getattr(worker_app, task), app=worker_app.app, eager=True)}


def latency() -> Table:
    """Two arrays of 1 MiB in a task: its body's time, first in a fresh child and later."""
    table = Table("the body of a task that fills two arrays of 1 MiB, in prefork children")
    styles = {"pooled, with the plugin": (True, "arrays_pooled"), "plain": (False, "arrays_plain")}
    first: dict[str, list[float]] = {style: [] for style in styles}
    steady: dict[str, list[float]] = {style: [] for style in styles}
    memory: dict[str, float] = {}
    with RedisServer() as redis:
        for style, (plugin, task) in styles.items():
            with worker(
                redis, "--concurrency=2", "--max-tasks-per-child=1", plugin=plugin
            ) as fresh:
                first[style] = [body_seconds(fresh, task) for _ in range(FRESH)]
            with worker(redis, "--concurrency=2", plugin=plugin) as lasting:
                for _ in range(STEADY // 4):
                    body_seconds(lasting, task)
                steady[style] = [body_seconds(lasting, task) for _ in range(STEADY)]
                memory[style] = proportional_bytes(lasting)
    ours, rival = styles
    for when, times in (("first task of a child", first), ("steady", steady)):
        for name, share in PERCENTILES.items():
            mine, theirs = (percentile(times[style], share) for style in styles)
            table.rows.append(
                Row(f"{ours}, {when}, {name}", rival, mine, theirs, *(3 * [mine / theirs]))
            )
    table.notes.append(
        f"time on the clock, {FRESH} fresh children and {STEADY} tasks, one after the other; the "
        "two workers ran one after the other, so these ratios have no spread"
    )
    table.notes.append(
        "memory of the whole worker (PSS): "
        + ", ".join(f"{style} {nbytes / 2**20:.0f} MiB" for style, nbytes in memory.items())
    )
    return table


def body_seconds(process: CeleryWorker, task: str) -> float:
    return float(process.run(f"worker_app.{task}", 1 << 20))


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def proportional_bytes(process: CeleryWorker) -> float:
    """What all its processes hold in memory, shared pages divided among them (PSS)."""
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    return float(sum(each.memory_full_info().pss for each in family))


def tables() -> Iterator[Table]:
    yield decorated()
    yield latency()
