"""Real workers to measure: started side by side, held at a gate, weighed."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.app_parts import GATE
from tests.support.celery_worker import CeleryWorker
from tests.support.processes import LocalProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

WAIT_SECONDS = 120
_ROOT = Path(__file__).parents[2]
_PACKAGE = __package__

Workers = Mapping[str, CeleryWorker]


@contextmanager
def workers(*arguments: str, apps: tuple[str, ...] = ("pooled", "plain")) -> Iterator[Workers]:
    """A worker for each app, all at work at the same time, so that they can take turns.

    An app may have options of its own behind its name: "plain --task-events".
    """
    with RedisServer() as redis, tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        yield {
            app: running.enter_context(
                CeleryWorker(
                    f"{_PACKAGE}.{app.split()[0]}_app:app",
                    broker=redis.celery_url(),
                    folder=_ROOT,
                    log=Path(folder, app),
                    arguments=["--loglevel=WARNING", *arguments, *app.split()[1:]],
                )
            )
            for app in apps
        }


class Gate:
    """Children that each hold a task until `open`, so that no child gets a second one before."""

    def __init__(self, process: CeleryWorker) -> None:
        self._process = process
        self._folder = tempfile.TemporaryDirectory()
        self._held: list[Any] = []

    def hold(self, task: str, *args: Any) -> None:
        """Publish a task and wait until a further child has it."""
        self._held.append(self._process.send(task, *args, self._folder.name))
        count = len(self._held)
        wait_until(
            lambda: sum(1 for _ in Path(self._folder.name).iterdir()) == count,
            what=f"{count} held children",
            timeout_seconds=WAIT_SECONDS,
        )

    def open(self) -> None:
        Path(self._folder.name, GATE).touch()

    def results(self) -> list[Any]:
        """Return the results of the held tasks, once the gate is open."""
        results = [self._process.result(each) for each in self._held]
        self._folder.cleanup()
        return results


def family(process: LocalProcess) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def processor_seconds(process: LocalProcess) -> float:
    """Return the processor time of all threads of all its processes so far, in seconds."""
    spent = [
        file.read_text(encoding="ascii")
        for each in family(process)
        for file in Path(f"/proc/{each.pid}/task").glob("*/schedstat")
    ]
    return sum(int(each.split()[0]) for each in spent) * 1e-9


def proportional_bytes(process: LocalProcess) -> float:
    """Return the memory of all its processes, shared pages divided among them (PSS)."""
    return float(sum(each.memory_full_info().pss for each in family(process)))
