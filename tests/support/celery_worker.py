"""A real `celery worker` for a test: started, observed through its log and tasks, always ended."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import kombu.pools
from celery import Celery, Task
from celery.result import AsyncResult

from tests.support.processes import LocalProcess
from tests.support.waiting import wait_until

_RESULT_SECONDS = 30
# a prefork child whose last result meets the shutdown waits 30 s for its receipt (billiard's
# GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT), with any app
STOP_SECONDS = 50
_PING_SECONDS = 0.1
# Celery's default is 10 s, in which a result of the killed child could still be read
_SETTINGS = {"worker_lost_wait": 2.0}
_numbers = itertools.count(1)


class CeleryWorker(LocalProcess):
    """`celery -A APP worker` in a process of its own, and a client of its broker.

    `app` is `module:attribute`, found in `folder` or installed; `broker` serves for results too.
    `prefix` is a command that runs the rest of its arguments. The worker's module finds `settings`
    as JSON in the variable TEST_WORKER_SETTINGS. `name` is one that no other worker has by default.
    """

    def __init__(  # noqa: PLR0913 (all but the first by keyword)
        self,
        app: str,
        *,
        broker: str,
        folder: Path,
        log: Path,
        name: str | None = None,
        arguments: Sequence[str] = (),
        prefix: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.node = f"{name or f'tested-{os.getpid()}-{next(_numbers)}'}@localhost"
        self._app = app
        self.folder = folder
        self.env = {
            "CELERY_BROKER_URL": broker,
            "CELERY_RESULT_BACKEND": broker,
            "TEST_WORKER_SETTINGS": json.dumps({**_SETTINGS, **(settings or {})}),
            **(env or {}),
        }
        super().__init__(
            [
                *prefix,
                *(sys.executable, "-m", "celery", "-A", app, "worker"),
                *("--loglevel=INFO", "-n", self.node),
                # both wait a second for other nodes; these workers are alone
                *("--without-mingle", "--without-gossip"),
                *arguments,
            ],
            log=log,
            cwd=folder,
            env=self.env,
        )
        self.broker = broker

    def __enter__(self) -> Self:
        try:
            return self.wait_ready()
        except BaseException:
            self.close()
            raise

    def wait_ready(self) -> Self:
        """Wait until the worker consumes tasks; ChildProcessError when it gave up instead."""
        wait_for_pong(self, self.broker, self.node)
        return self

    @cached_property
    def client(self) -> Celery:
        """An app of the test's own on the same broker; it knows none of the worker's tasks."""
        return new_client(self.broker)

    def send(self, task: str, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Publish a task by name."""
        return self.client.send_task(task, args, kwargs)

    def run(self, task: str, *args: Any, **kwargs: Any) -> Any:
        """Publish a task by name and return its result, or raise what it raised."""
        return self.result(self.send(task, *args, **kwargs))

    def result(self, pending: AsyncResult[Any]) -> Any:
        """Wait for a published task; its result, or the exception that it ended with."""
        return pending.get(timeout=_RESULT_SECONDS)

    def inspect(self, command: str) -> Any:
        """Return what this worker's main process answers to `celery inspect COMMAND`."""
        ask = self.client.control.inspect([self.node], timeout=5, limit=1)
        return wait_until(getattr(ask, command), what=f"a reply to {command}")[self.node]

    def command(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `celery -A APP ARGUMENTS` beside the worker, with its settings, on pipes."""
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", self._app, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self, number: int) -> int:
        """Signal the worker when it is idle and wait for its end; return its exit status.

        Celery shuts down in the signal's handler, inside of whatever the main process does just
        then: where that still reads a task's result, its child or itself may wait for long, and for
        ever where it has the lock of billiard's counter of results (seen with billiard 4.3.2).
        """
        wait_until(lambda: not self.inspect("active"), what="the end of its tasks")
        self.send_signal(number)
        return self.wait(timeout_seconds=STOP_SECONDS)

    def close(self) -> None:
        """End all its processes and this test's connections to the broker."""
        super().close()
        if "client" in self.__dict__:
            close_client(self.client)


def new_client(broker: str) -> Celery:
    """Make an app that knows no tasks, on a broker that serves for results too."""
    return Celery(
        "client",
        broker=broker,
        backend=broker,
        set_as_current=False,
        # a lost reply shall fail its own wait, not the retries of a connection
        broker_connection_retry_on_startup=False,
        # kombu pools connections by their options: one of its own makes the pool the client's own
        broker_transport_options={"pool_of": next(_numbers)},
    )


def close_client(client: Celery) -> None:
    """End a client's connections."""
    consumer = client.backend.result_consumer
    consumer.stop()
    consumer._pubsub = None  # a result that outlives the client would connect it again
    # its `close` leaves the pool's sockets to the collector of garbage, which may warn of them
    client.backend.client.connection_pool.disconnect()
    client.pool.force_close_all()
    for pools in (kombu.pools.producers, kombu.pools.connections):
        with suppress(KeyError):  # it has published nothing
            del pools[client.connection_for_write()]  # or its epoll descriptor stays open
    client.close()


@contextmanager
def connected(broker: str) -> Iterator[Celery]:
    """Make a client for the length of a `with`."""
    client = new_client(broker)
    try:
        yield client
    finally:
        close_client(client)


def wait_for_pong(
    process: LocalProcess, broker: str, node: str, *, timeout_seconds: float = 20
) -> None:
    """Wait until the node that this process runs answers a ping.

    It does once its main process is in the loop that consumes tasks: after the line "ready.", which
    is logged on the way into it, and after the pool has begun.
    """
    process.wait_until(
        Pings(broker, node).answered, what=f"{node} answers a ping", timeout_seconds=timeout_seconds
    )


class Pings:
    """Pings of some nodes, with more patience from one to the next."""

    def __init__(self, broker: str, *nodes: str) -> None:
        self._broker, self._nodes = broker, nodes
        self._began = time.monotonic()

    def answered(self) -> bool:
        """Ping them once; true when all of them have answered.

        What is sent before a node listens is lost, so the first pings wait shortly; a node on a
        busy machine may take longer, so later ones wait longer. Each has a client of its own, which
        finds no late answer to the ping before.
        """
        patience = _PING_SECONDS + (time.monotonic() - self._began) / 5
        with connected(self._broker) as client:
            answers = client.control.ping(self._nodes, timeout=patience, limit=len(self._nodes))
        return {node for answer in answers for node in answer} == set(self._nodes)


def run(task: Task, *args: Any) -> Any:
    """Publish a task to the worker of the current app and return its result."""
    return task.delay(*args).get(timeout=_RESULT_SECONDS)


def wait_told(client: Celery, word: str) -> None:
    """Wait until a task has told this word, once for each call (`tell` in `pool_tasks`)."""
    told = client.backend.client.blpop([f"told-{word}"], timeout=_RESULT_SECONDS)
    assert told, f"no task told {word!r}"


StartWorker = Callable[..., CeleryWorker]
