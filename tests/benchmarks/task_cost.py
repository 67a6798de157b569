"""What the plugin costs a task that uses no buffer, in Celery's own tracer."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from celery import Celery, signals
from celery.app.trace import build_tracer

import bufpool_workers as bp
from bufpool_workers.runtime import current_runtime
from tests.benchmarks.report import Table, duration
from tests.benchmarks.timing import Case, measure

WARM = 1000
ROUNDS = 51
STATEMENT = "trace('id', (1,), {}, {'id': 'id', 'task': 'echo'})"


def tables() -> Iterator[Table]:
    """Compare the plugin with two receivers that do nothing: Celery's own price for signals."""
    with tempfile.TemporaryDirectory() as folder:
        connects = {
            "no receivers": lambda _app: None,
            "two empty receivers": connect_empty,
            "plugin, nothing warm": partial(connect_plugin, folder=folder),
            f"plugin, {WARM} buffers warm": partial(connect_plugin, folder=folder, warm=WARM),
        }
        plain, empty, cold, warm = measure(
            [Case(name, STATEMENT, partial(tracer, connect)) for name, connect in connects.items()],
            rounds=ROUNDS,
        )
    table = Table("task_cost", "a task that uses no buffer, in Celery's tracer, without a broker")
    table.add(empty, plain)
    table.add(cold, empty)
    table.add(warm, empty)
    table.add(warm, cold)
    table.notes.append(
        f"the plugin beyond two empty receivers: {duration(cold.median - empty.median)} with "
        f"nothing warm, {duration(warm.median - empty.median)} with {WARM} (reach: 8 us)"
    )
    yield table


def tracer(connect: Callable[[Celery], None]) -> Mapping[str, Any]:
    app = Celery("task_cost")
    app.conf.task_ignore_result = True
    connect(app)
    task = app.task(name="echo")(echo)
    app.finalize()
    return {"trace": build_tracer("echo", task, app=app)}


def echo(number: int) -> int:
    return number


def connect_empty(_app: Celery) -> None:
    signals.task_prerun.connect(ignore, weak=False)
    signals.task_postrun.connect(ignore, weak=False)


def ignore(**_: Any) -> None:
    """Do nothing, as the least that a receiver can do."""


def connect_plugin(app: Celery, folder: str | None = None, warm: int = 0) -> None:
    """Wire the plugin, which counts in a file as in a worker where it has a folder."""
    app.conf.bufpool_warm = {"regular": {"4KiB": warm}} if warm else {}
    app.conf.bufpool_metrics_dir = folder
    bp.setup(app)
    current_runtime().start_process()
