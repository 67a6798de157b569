"""Through real prefork workers on a real Redis: what a task costs and gains."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from celery.app.trace import build_tracer
from celery.result import ResultSet

import bufpool_workers as bp
from bufpool_workers import MiB
from tests.benchmarks.live_workers import (
    WAIT_SECONDS,
    Gate,
    processor_seconds,
    proportional_bytes,
    workers,
)
from tests.benchmarks.report import Row, Table, duration
from tests.benchmarks.timing import Case, Timing, measure, percentile
from tests.support.celery_worker import CeleryWorker

BATCH = 100
MEASURED_SECONDS = 40
LEAST_ROUNDS = 9
FRESH_CHILDREN = 8
FRESH_ROUNDS = 9
CHILDREN = 2
STEADY_TASKS = 40
STEADY_ROUNDS = 21
FILLED = MiB
PERCENTILES = {"median": 0.5, "95 %": 0.95, "worst": 1.0}
SHARES = tuple(PERCENTILES)

Key = TypeVar("Key")
Times = dict[Key, list[list[float]]]


def run_batch(process: CeleryWorker, task: str, count: int = BATCH) -> None:
    pending = [process.send(task, number) for number in range(count)]
    ResultSet(pending, app=process.client).get(timeout=WAIT_SECONDS)


def decorated() -> Table:
    """The decorator's cost, which is lost in the noise; an equal task shows how much that is."""
    table = Table(
        "decorator", f"a task that does nothing through a real worker, batches of {BATCH} in turns"
    )
    tasks = ["echo", "echo_again", "echo_pooled"]
    times: dict[str, list[float]] = {task: [] for task in tasks}
    with workers("--concurrency=1", apps=("pooled",)) as running:
        process = running["pooled"]
        for task in tasks:
            run_batch(process, task)
        end = time.monotonic() + MEASURED_SECONDS
        while time.monotonic() < end or len(times["echo"]) < LEAST_ROUNDS:
            for task in random.sample(tasks, len(tasks)):
                before = processor_seconds(process)
                run_batch(process, task)
                times[task].append((processor_seconds(process) - before) / BATCH)
    plain, again, ours = (Timing(task, times[task]) for task in tasks)
    table.add(ours, plain, what="@pooled_buffer(4096)", interval=True, reach=1.01)
    table.add(again, plain, what="the same task once more: the noise", interval=True)
    table.notes.append(
        f"processor time of all of the worker's processes, {len(plain.seconds)} rounds; spread: "
        "where the median lies with 95 % confidence"
    )
    _add_traced(table, plain.median)
    return table


def _add_traced(table: Table, whole_seconds: float) -> None:
    """Time Celery's own tracer of the two tasks, without a broker: finer by far."""
    plain, ours = measure(
        [
            Case("undecorated, traced", "trace('id', (1,), {})", lambda: tracer("echo")),
            Case("decorated, traced", "trace('id', (1,), {})", lambda: tracer("echo_pooled")),
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
    from tests.benchmarks import pooled_app  # noqa: PLC0415 - wires its plugin in: in the case's process only

    bp.current_pools().warm()
    return {"trace": build_tracer(task, pooled_app.app.tasks[task], app=pooled_app.app, eager=True)}


def in_turns(samplers: Mapping[Key, Callable[[], float]], count: int) -> Times[Key]:
    """Rounds of `count` samples of each; a round's samples come one after the other."""
    times: Times[Key] = {key: [] for key in samplers}
    for sample in samplers.values():
        for _ in range(count):
            sample()
    for _ in range(STEADY_ROUNDS):
        for key, sample in random.sample(list(samplers.items()), len(samplers)):
            times[key].append([sample() for _ in range(count)])
    return times


def add_shares(table: Table, what: str, times: Times[str], shares: Sequence[str] = SHARES) -> None:
    """Add a row for each of the shares, taken round by round."""
    for name in shares:
        ours, rival = (
            Timing(style, [percentile(samples, PERCENTILES[name]) for samples in times[app]])
            for app, style in (("pooled", "with the plugin"), ("plain", "without"))
        )
        table.add(ours, rival, what=f"{what}, {name}")


def body_seconds(process: CeleryWorker) -> float:
    return float(process.run("arrays", FILLED))


def batch_seconds(process: CeleryWorker, task: str, argument: int) -> float:
    """Seconds on the clock for each task of a batch that waits in the queue, in two children."""
    gate = Gate(process)
    for _ in range(CHILDREN):
        gate.hold("busy")
    for _ in range(BATCH):
        process.client.send_task(task, (argument,), ignore_result=True)
    last = [process.send("echo", 1) for _ in range(CHILDREN)]
    began = time.perf_counter()
    gate.open()
    for each in last:
        process.result(each)
    seconds = (time.perf_counter() - began) / BATCH
    gate.results()
    return seconds


def round_trip(process: CeleryWorker) -> float:
    began = time.perf_counter()
    process.run("echo", 1)
    return time.perf_counter() - began


def with_and_without() -> Iterator[Table]:
    """Throughput, latency and memory of two workers of two children each."""
    with workers(f"--concurrency={CHILDREN}") as running:
        rate = Table("throughput", f"{BATCH} tasks that wait in the queue, through two children")
        works = {
            "a task that does nothing": ("echo", 1),
            "a task that fills two arrays of 1 MiB": ("arrays", FILLED),
        }
        times = in_turns(
            {
                (app, what): partial(batch_seconds, process, *work)
                for app, process in running.items()
                for what, work in works.items()
            },
            1,
        )
        for what in works:
            ours, rival = (
                Timing(style, [samples[0] for samples in times[app, what]])
                for app, style in (("pooled", "with the plugin"), ("plain", "without"))
            )
            rate.add(ours, rival, what=what, interval=True)
            rate.notes.append(
                f"{what}: {1 / ours.median:.0f} tasks a second with the plugin, "
                f"{1 / rival.median:.0f} without"
            )
        yield rate
        latency = Table("latency", "steady state: one task after the other, on the clock")
        for what, sample in (
            ("published to result", round_trip),
            ("body with two arrays", body_seconds),
        ):
            samplers = {app: partial(sample, process) for app, process in running.items()}
            add_shares(latency, what, in_turns(samplers, STEADY_TASKS))
        latency.notes.append(
            "bodies without the plugin: as long as the child has freed no larger block, whatever "
            "by; later ones cost what bytearrays do after mallopt"
        )
        yield latency
        memory = Table("worker_memory", "memory of a worker with two children, after all that")
        ours, rival = (proportional_bytes(running[app]) for app in ("pooled", "plain"))
        ratio = ours / rival
        memory.rows.append(
            Row("with the plugin", "without", ours, rival, ratio, ratio, ratio, unit="bytes")
        )
        memory.notes.append(
            "all of its processes, shared pages divided among them (PSS); each child holds the "
            "warm pools: 8 of 4 KiB and 4 of 1 MiB, and what secure and random ones are warm"
        )
        yield memory


def first_task() -> Table:
    """The first task of each child of workers that were just started, one after the other."""
    table = Table(
        "first_task", "the first task of a fresh child: its body fills two arrays of 1 MiB"
    )
    times: dict[str, list[list[float]]] = {"pooled": [], "plain": []}
    for _ in range(FRESH_ROUNDS):
        with workers(f"--concurrency={FRESH_CHILDREN}") as running:
            for app in random.sample(list(running), len(running)):
                gate = Gate(running[app])
                for _ in range(FRESH_CHILDREN):
                    gate.hold("arrays_held", FILLED)
                gate.open()
                times[app].append(gate.results())
    add_shares(table, "body", times, ("median", "worst"))
    table.notes.append(f"{FRESH_ROUNDS} times {FRESH_CHILDREN} children")
    return table


def tables() -> Iterator[Table]:
    yield decorated()
    yield from with_and_without()
    yield first_task()
