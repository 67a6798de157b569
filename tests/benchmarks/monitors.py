"""Beside Flower and an exporter of Celery's events: what hearing of each task costs."""

import random
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.benchmarks.live_workers import Workers, processor_seconds, proportional_bytes, workers
from tests.benchmarks.report import Row, Table, duration
from tests.benchmarks.through_worker import run_batch
from tests.benchmarks.timing import Timing
from tests.support.checkout import CHECKOUT
from tests.support.ports import free_port
from tests.support.processes import LocalProcess
from tests.support.waiting import wait_until

BATCH = 200
ROUNDS = 9
PLAIN, HEARD, POOLED = "plain", "plain --task-events", "pooled"
TASKS = {PLAIN: "echo", HEARD: "echo", POOLED: "echo_pooled"}
FLOWER, EXPORTER = "Flower", "celery-prometheus-exporter"
# how many tasks a monitor saw end well: the name of its metric, and a label with its value
_SUCCEEDED = {
    FLOWER: ("flower_events_total", "type", "task-succeeded"),
    EXPORTER: ("celery_tasks", "state", "SUCCESS"),
}
_WAIT_SECONDS = 60
_IDLE_POLLS = 10  # 20 ms apart


class Monitor(LocalProcess):
    """A program that hears a worker's events and serves what it counts."""

    def __init__(self, name: str, *, python: Path, broker: str, folder: Path) -> None:
        self.name = name
        self._url = f"http://127.0.0.1:{(port := free_port())}/metrics"
        command = {
            FLOWER: ["celery", f"--broker={broker}", "flower", f"--port={port}"],
            EXPORTER: ["celery-prometheus-exporter", "--broker", broker],
        }[name]
        address = {FLOWER: "--address=127.0.0.1", EXPORTER: f"--addr=127.0.0.1:{port}"}[name]
        command[0] = str(python.with_name(command[0]))
        super().__init__([*command, address], log=folder / name, cwd=folder)

    def families(self) -> list[Metric]:
        """Return what it serves; nothing as long as it doesn't answer."""
        try:
            with urllib.request.urlopen(self._url, timeout=10) as answer:  # noqa: S310 - loopback
                return list(text_string_to_metric_families(answer.read().decode()))
        except OSError:
            return []

    def succeeded(self) -> float:
        """Return how many tasks it saw end well."""
        name, label, value = _SUCCEEDED[self.name]
        samples = [sample for family in self.families() for sample in family.samples]
        return sum(
            each.value for each in samples if each.name == name and each.labels.get(label) == value
        )

    def settle(self) -> None:
        """Wait until it is idle; to ask it for its counts would cost it more than the events."""
        spent = [processor_seconds(self)]

        def idle() -> bool:
            spent.append(processor_seconds(self))
            return len(spent) > _IDLE_POLLS and spent[-1] == spent[-_IDLE_POLLS]

        self.wait_until(idle, what=f"{self.name} is idle", timeout_seconds=_WAIT_SECONDS)

    def shows(self) -> str:
        """Return the names of its own metrics: not those of its process and its Python."""
        names = {family.name for family in self.families()}
        return ", ".join(sorted(name for name in names if name.startswith(("celery_", "flower_"))))


def environment() -> Path:
    """Return the Python of an environment with the extra `monitors`; made at the first run."""
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    folder = CHECKOUT / "build" / "monitors"
    python = folder / "bin" / "python"
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    wanted = extras["optional-dependencies"]["monitors"]
    subprocess.run([str(python), *install, *wanted], check=True, timeout=300)
    return python


@contextmanager
def monitored() -> Iterator[tuple[Workers, list[Monitor]]]:
    """Three workers; both monitors beside the one that sends events."""
    python = environment()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        live = running.enter_context(workers("--concurrency=2", apps=tuple(TASKS)))
        monitors = [
            running.enter_context(
                Monitor(name, python=python, broker=live[HEARD].broker, folder=folder)
            )
            for name in _SUCCEEDED
        ]
        for monitor in monitors:
            monitor.wait_until(
                monitor.families, what=f"{monitor.name} answers", timeout_seconds=_WAIT_SECONDS
            )
        yield live, monitors


def warm_up(live: Workers, monitors: list[Monitor]) -> None:
    """Run a batch in each worker, and single tasks until both monitors hear of them."""
    for app, worker in live.items():
        run_batch(worker, TASKS[app], BATCH)

    def heard() -> bool:
        run_batch(live[HEARD], TASKS[HEARD], 1)
        return all(monitor.succeeded() for monitor in monitors)

    wait_until(heard, what="events reach the monitors", timeout_seconds=_WAIT_SECONDS)


def measured(live: Workers, monitors: list[Monitor]) -> dict[str, Timing]:
    """Return the processor time for each task: of each worker, and of each monitor."""
    times: dict[str, list[float]] = {name: [] for name in (*TASKS, *_SUCCEEDED)}
    seen = {monitor.name: monitor.succeeded() for monitor in monitors}
    for _ in range(ROUNDS):
        for app in random.sample(list(live), len(live)):
            listening = monitors if app == HEARD else []
            for monitor in listening:
                monitor.settle()
            watched = {app: live[app], **{monitor.name: monitor for monitor in listening}}
            before = {name: processor_seconds(process) for name, process in watched.items()}
            run_batch(live[app], TASKS[app], BATCH)
            for monitor in listening:
                monitor.settle()
            for name, process in watched.items():
                times[name].append((processor_seconds(process) - before[name]) / BATCH)
    for monitor in monitors:
        if (missed := ROUNDS * BATCH - monitor.succeeded() + seen[monitor.name]) != 0:
            raise RuntimeError(f"{monitor.name} missed {missed:.0f} tasks")
    return {name: Timing(name, seconds) for name, seconds in times.items()}


def cost(times: dict[str, Timing]) -> Table:
    """Compare what a task costs a worker and its monitor together."""
    table = Table("monitors", "processor time for a task that does nothing, with its monitor")
    alone = Timing("worker alone", times[PLAIN].seconds)
    plugin = Timing("plugin, one pooled buffer", times[POOLED].seconds)
    table.add(plugin, alone, interval=True)
    table.add(times[HEARD], alone, what="events, nobody listens", interval=True)
    for name in _SUCCEEDED:
        both = zip(times[HEARD].seconds, times[name].seconds, strict=True)
        heard = Timing(f"events, and {name}", [sum(each) for each in both])
        table.add(heard, alone, interval=True)
        table.add(plugin, heard, interval=True)
        table.notes.append(f"{name} alone: {duration(times[name].median)} for a task")
    table.notes += [
        f"{ROUNDS} rounds of {BATCH} tasks; each worker has two children, and they take turns",
        "spread: where the median lies with 95 % confidence",
    ]
    return table


def memory(live: Workers, monitors: list[Monitor]) -> Table:
    """Compare what worker and monitor hold together after all these tasks."""
    table = Table("monitor_memory", "memory of a worker with two children and its monitor")
    alone, plugin, heard = (proportional_bytes(live[app]) for app in (PLAIN, POOLED, HEARD))

    def add(what: str, nbytes: float, rival: str, rival_bytes: float) -> None:
        ratio = nbytes / rival_bytes
        row = Row(what, rival, nbytes, rival_bytes, ratio, ratio, ratio, unit="bytes")
        table.rows.append(row)

    add("plugin", plugin, "worker alone", alone)
    for monitor in monitors:
        both = heard + proportional_bytes(monitor)
        add(f"events, and {monitor.name}", both, "worker alone", alone)
        add("plugin", plugin, f"events, and {monitor.name}", both)
        table.notes.append(f"{monitor.name} shows: {monitor.shows()}")
    table.notes.append("shared pages divided among the processes (PSS)")
    return table


def tables() -> Iterator[Table]:
    with monitored() as (live, monitors):
        warm_up(live, monitors)
        yield cost(measured(live, monitors))
        yield memory(live, monitors)
