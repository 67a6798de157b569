"""A worker node under test: its broker, its worker, its metrics, and the truth about its tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import NotRegistered
from celery.result import AsyncResult

from tests.faults.footprint import Footprint
from tests.support.celery_worker import CeleryWorker
from tests.support.redis_server import RedisServer
from tests.support.scrape import Samples, scrape, total
from tests.support.waiting import wait_until

POOLS = ("regular", "secure", "random")


class Node:
    """A real prefork worker on a Redis of its own, counting in `directory`.

    `start` is the fixture `start_worker`; workers that are started one after the other count on
    in the same directory, and so does the truth.
    """

    def __init__(  # noqa: PLR0913 (all but the first by keyword)
        self,
        start: Callable[..., CeleryWorker],
        *,
        redis: RedisServer,
        folder: Path,
        directory: Path,
        concurrency: int = 2,
        arguments: Sequence[str] = (),
    ) -> None:
        self.redis = redis
        self.directory = directory
        self.concurrency = concurrency
        self.gate = folder / "gate"
        os.mkfifo(self.gate)
        self._truth = folder / "truth"
        self._truth.touch()
        self.shutting_down = folder / "shutting-down"
        self._start = start
        self._arguments = [f"--concurrency={concurrency}", *arguments]
        self._broker = redis.celery_url()
        self.start()

    def start(self) -> None:
        """Start a worker; the one before has ended."""
        self.shutting_down.unlink(missing_ok=True)
        self.worker = self._start(
            "fault_app:app",
            broker=self._broker,
            arguments=self._arguments,
            settings={
                "bufpool_metrics_port": 0,
                "bufpool_compact_foreign": True,
                # a child that replaces another is not slow on a busy machine, but lost
                "worker_proc_alive_timeout": 30,
            },
            env={
                "TEST_TRUTH": str(self._truth),
                "TEST_SHUTTING_DOWN": str(self.shutting_down),
                "PROMETHEUS_MULTIPROC_DIR": str(self.directory),
            },
        )

    def work(self, tasks: int = 4, *, task: str = "work") -> set[int]:
        """Run tasks, all at once; give the processes that they ran in."""
        arguments = (3,) if task == "work" else ()
        sent = [self.worker.send(f"fault_app.{task}", *arguments) for _ in range(tasks)]
        return {self.worker.result(each) for each in sent}

    def start_task(self, task: str, *arguments: Any, **options: Any) -> AsyncResult[Any]:
        """Start a task, and wait until it has written down what it took; give it as it goes on."""
        noted = self.noted
        pending = self.worker.client.send_task(task, arguments, **options)
        self.wait_noted(noted + 1)
        return pending

    @property
    def noted(self) -> int:
        """Return the number of lines of truth."""
        return len(self._lines())

    def wait_noted(self, lines: int) -> None:
        """Wait until tasks have written so many lines of truth."""
        wait_until(lambda: self.noted >= lines, what=f"{lines} lines of truth")

    def hold(self, *, size: int = 4096, **options: Any) -> tuple[AsyncResult[Any], int]:
        """Start a task that holds buffers until `release`; give it, and its process."""
        held = self.start_task("fault_app.hold", str(self.gate), size, **options)
        return held, int(self._lines()[-1].split()[0])

    def work_in_each_process(self, *, task: str = "work") -> set[int]:
        """Run a task in every child, one after the other: the others are held meanwhile."""
        held = [self.hold() for _ in range(self.concurrency - 1)]
        last = self.work(1, task=task)
        for pending, _ in held:
            self.release()
            self.worker.result(pending)
        return last | {pid for _, pid in held}

    def release(self) -> None:
        """Release the task that holds buffers."""
        self.gate.write_bytes(b".")

    def unacknowledged(self) -> int:
        """Return the number of messages that the broker would deliver again."""
        return int(self.worker.client.backend.client.hlen("unacked"))

    def truth(self) -> dict[str, int]:
        """The buffers that tasks took, by pool, as they have written down themselves."""
        taken = sum(int(line.split()[1]) for line in self._lines())
        return dict.fromkeys(POOLS, taken)

    def truth_of(self, pid: int) -> int:
        """The buffers that one process took from each pool."""
        lines = (line.split() for line in self._lines())
        return sum(int(taken) for by, taken in lines if int(by) == pid)

    def totals(self) -> dict[str, int]:
        """The buffers that were taken, by pool, as a scrape has them."""
        samples = self.scrape()
        return {pool: int(total(samples, "bufpool_gets_total", pool=pool)) for pool in POOLS}

    def wait_exact(self) -> None:
        """Wait until a scrape says what the tasks say; a process repairs its file after a task."""
        wait_until(lambda: self.totals() == self.truth(), what=f"{self.truth()} in {self.totals()}")

    def scrape(self) -> Samples:
        """Every sample of the node's metrics endpoint."""
        return scrape(self.worker)

    def footprint_in_use(self) -> Footprint:
        """Return what the node has in the system when each part of it has worked once."""
        self.work_in_each_process()  # a child that is still warming up has less than it will have
        self.work(task="count_job")
        with pytest.raises(NotRegistered):  # main connects to the result backend to say so
            self.worker.run("fault_app.unknown")
        self.scrape()
        return self.footprint()

    def footprint(self) -> Footprint:
        """Return what the node has in the system now."""
        return Footprint.of(self.worker, self.directory)

    def wait_for_end(self) -> None:
        """Wait until the worker and all of its processes are gone by themselves."""
        self.worker.wait(timeout_seconds=60)
        wait_until(lambda: not self.worker.members(), what="the end of the worker's children")

    def wait_settled(self, before: Footprint) -> None:
        """Wait until there is nothing more than there was before."""

        def settled() -> bool:
            self.scrape()  # it merges the files of the dead
            self.left = self.footprint().beyond(before)
            return not self.left

        try:
            wait_until(settled, what="nothing left behind")
        except TimeoutError as late:
            late.add_note(f"left: {self.left}")
            raise

    def _lines(self) -> list[str]:
        return self._truth.read_text().splitlines()
