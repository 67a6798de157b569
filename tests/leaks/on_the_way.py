"""Where a password shows on its way: as an argument or a result of a task, plain and sealed."""

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from celery import Celery
from celery.result import AsyncResult

import bufpool_workers as bp
from bufpool_workers import testing
from tests.support.celery_worker import CeleryWorker, StartWorker, close_client, new_client
from tests.support.memory_scan import copies, copies_in_memory, copies_in_redis
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

APPS = Path(__file__).parents[1] / "celery"
IN_USE = "memory of the worker's child, in use"
_TIMEOUT_SECONDS = 30


@contextmanager
def _listening(client: Celery, events: list[dict[str, Any]]) -> Iterator[None]:
    """Collect all events; they are subscribed to when the body begins."""
    ready = threading.Event()
    with client.connection_for_read() as connection:
        receiver = client.events.Receiver(connection, handlers={"*": events.append})
        receiver.on_consume_ready = lambda *_, **__: ready.set()

        def listen() -> None:
            for _ in receiver.consume(limit=None, wakeup=False):
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            assert ready.wait(_TIMEOUT_SECONDS)
            yield
        finally:
            receiver.should_stop = True
            thread.join(_TIMEOUT_SECONDS)


def _start(start_worker: StartWorker, *, broker: str, key: Path, **settings: Any) -> CeleryWorker:
    """Start a worker that shows as much as one can: all log lines, events, extended results."""
    return start_worker(
        "sealed_app:app",
        broker=broker,
        arguments=["--concurrency=1", "-E", "--loglevel=DEBUG"],
        settings={"bufpool_private_keys": [str(key)], "result_extended": True, **settings},
    )


def _afterwards(
    secret: bytes,
    client: Celery,
    events: list[dict[str, Any]],
    redis_server: RedisServer,
    worker: CeleryWorker,
) -> dict[str, int]:
    """Return the copies of a secret where its tasks have ended."""
    (child,) = psutil.Process(worker.pid).children()
    return {
        "Redis: results, `result_extended`": copies_in_redis(client.backend.client, secret),
        "events": copies(repr(events).encode(), secret),
        "worker's log, DEBUG": copies(worker.log().encode(), secret),
        "memory of Redis, afterwards": copies_in_memory(redis_server.pid, secret),
        "memory of the worker's main process, afterwards": copies_in_memory(worker.pid, secret),
        "memory of the worker's child, afterwards": copies_in_memory(child.pid, secret),
    }


def of_argument(
    kind: str, *, redis_server: RedisServer, start_worker: StartWorker, folder: Path
) -> dict[str, int]:
    """Run a task that succeeds and one that fails; return the copies of their argument."""
    secret = f"pw-{secrets.token_hex(14)}".encode()
    key = folder / f"{kind}.key"
    public_key = bp.generate_key(key)
    gate = folder / f"{kind}.gate"
    os.mkfifo(gate)
    url = redis_server.celery_url()
    client = new_client(url)
    client.conf.task_send_sent_event = True
    database = client.backend.client
    events: list[dict[str, Any]] = []
    found: dict[str, int] = {}

    def send(**options: Any) -> AsyncResult:
        value = secret.decode()
        if kind == "sealed":
            value = bp.seal(
                secret, task="sealed_tasks.sealed", argument="password", public_key=public_key
            )
        return client.send_task(f"sealed_tasks.{kind}", ("ada",), {"password": value, **options})

    with _listening(client, events):
        held = send(gate=str(gate))
        found["Redis: queue"] = copies_in_redis(database, secret)
        worker = _start(start_worker, broker=url, key=key, task_acks_late=True)
        active = wait_until(lambda: worker.inspect("active"), what="the task to run")
        found["`inspect active`"] = copies(repr(active).encode(), secret)
        found["Redis: unacknowledged"] = copies_in_redis(database, secret)
        (process,) = psutil.Process(worker.pid).children()
        found[IN_USE] = copies_in_memory(process.pid, secret)
        gate.open("wb").close()  # the body reads to the end of it
        digest, child = held.get(timeout=_TIMEOUT_SECONDS)
        assert digest == hashlib.sha256(secret).hexdigest()
        failed = send(fail=True).get(timeout=_TIMEOUT_SECONDS, propagate=False)
        assert repr(failed) == "RuntimeError('the body failed')"
        wait_until(
            lambda: {event["type"] for event in events} >= {"task-sent", "task-failed"},
            what="the events of both tasks",
        )
    found |= _afterwards(secret, client, events, redis_server, worker)
    assert child == process.pid
    assert _private_key_copies(worker.pid, key) == (0, 0)
    assert _private_key_copies(child, key)[0] == 0
    close_client(client)
    return found


def _private_key_copies(pid: int, key: Path) -> tuple[int, int]:
    """Count what a process holds of the key file's text, and of the key itself."""
    digits = key.read_bytes().strip().removeprefix(b"bps1-private-")
    return copies_in_memory(pid, digits), copies_in_memory(pid, bytes.fromhex(digits.decode()))


def of_result(
    kind: str, *, redis_server: RedisServer, start_worker: StartWorker, folder: Path
) -> dict[str, int]:
    """Run a task that returns a secret; return the copies of its result."""
    secret = f"pw-{secrets.token_hex(14)}".encode()
    key, own = folder / f"{kind}.key", folder / f"{kind}.own"
    public_key, own_public_key = bp.generate_key(key), bp.generate_key(own)
    url = redis_server.celery_url()
    client = new_client(url)
    client.conf.task_send_sent_event = True
    task = f"sealed_tasks.echo_{kind}"
    events: list[dict[str, Any]] = []
    found: dict[str, int] = {}
    worker = _start(start_worker, broker=url, key=key, bufpool_result_public_keys=[own_public_key])
    with _listening(client, events):
        token = bp.seal(secret, task=task, argument="password", public_key=public_key)
        pending = client.send_task(task, (token,))
        result = pending.get(timeout=_TIMEOUT_SECONDS)
        wait_until(
            lambda: "task-succeeded" in {event["type"] for event in events}, what="the task's event"
        )
    found |= _afterwards(secret, client, events, redis_server, worker)
    close_client(client)
    if kind == "sealed":
        testing.configure(bp.Settings(public_key=public_key, result_private_keys=(str(own),)))
        with bp.unseal_result(result, task=task, task_id=pending.id) as opened:
            assert opened == secret
    else:
        assert result == secret.decode()
    return found
