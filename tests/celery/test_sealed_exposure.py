"""Where a password shows that is a task's argument or its result: plain, and sealed."""

import hashlib
import os
import secrets
import threading
from contextlib import contextmanager

import psutil
import pytest
from celery import Celery

import bufpool_workers as bp
from bufpool_workers import testing
from tests.support.memory_scan import copies, copies_in_memory, copies_in_redis
from tests.support.waiting import wait_until

TIMEOUT_SECONDS = 30
IN_USE = "memory of the worker's child, in use"


@contextmanager
def listening(client, events):
    """Collect all events; they are subscribed to when the body begins."""
    ready = threading.Event()
    with client.connection_for_read() as connection:
        receiver = client.events.Receiver(connection, handlers={"*": events.append})
        receiver.on_consume_ready = lambda *_, **__: ready.set()

        def listen():
            for _ in receiver.consume(limit=None, wakeup=False):
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            assert ready.wait(TIMEOUT_SECONDS)
            yield
        finally:
            receiver.should_stop = True
            thread.join(TIMEOUT_SECONDS)


def exposure(kind, *, redis_server, start_worker, tmp_path):
    """Run one task that succeeds and one that fails; return the copies found at each place."""
    secret = f"pw-{secrets.token_hex(14)}".encode()
    key = tmp_path / f"{kind}.key"
    public_key = bp.generate_key(key)
    gate = tmp_path / f"{kind}.gate"
    os.mkfifo(gate)
    url = redis_server.celery_url()
    client = Celery("producer", broker=url, backend=url, set_as_current=False)
    client.conf.task_send_sent_event = True
    database = client.backend.client
    events, found = [], {}

    def send(**options):
        value = secret.decode()
        if kind == "sealed":
            value = bp.seal(
                secret, task="sealed_tasks.sealed", argument="password", public_key=public_key
            )
        return client.send_task(f"sealed_tasks.{kind}", ("ada",), {"password": value, **options})

    with listening(client, events):
        held = send(gate=str(gate))
        found["Redis: queue"] = copies_in_redis(database, secret)
        worker = start_worker(
            "sealed_app:app",
            broker=url,
            arguments=["--concurrency=1", "-E", "--loglevel=DEBUG"],
            settings={
                "bufpool_private_keys": [str(key)],
                "result_extended": True,
                "task_acks_late": True,
            },
        )
        active = wait_until(lambda: worker.inspect("active"), what="the task to run")
        found["inspect active"] = copies(repr(active).encode(), secret)
        found["Redis: unacknowledged"] = copies_in_redis(database, secret)
        (process,) = psutil.Process(worker.pid).children()
        found[IN_USE] = copies_in_memory(process.pid, secret)
        gate.open("wb").close()  # the body reads to the end of it
        digest, child = held.get(timeout=TIMEOUT_SECONDS)
        assert digest == hashlib.sha256(secret).hexdigest()
        with pytest.raises(RuntimeError, match="the body failed"):
            send(fail=True).get(timeout=TIMEOUT_SECONDS)
        wait_until(
            lambda: {event["type"] for event in events} >= {"task-sent", "task-failed"},
            what="the events of both tasks",
        )
    found["Redis: results, extended"] = copies_in_redis(database, secret)
    found["events"] = copies(repr(events).encode(), secret)
    found["worker's log, DEBUG"] = copies(worker.log().encode(), secret)
    found["memory of Redis"] = copies_in_memory(redis_server.pid, secret)
    found["memory of the worker's main process"] = copies_in_memory(worker.pid, secret)
    assert child == process.pid
    found["memory of the worker's child"] = copies_in_memory(child, secret)
    assert private_key_copies(worker.pid, key) == (0, 0)
    assert private_key_copies(child, key)[0] == 0
    client.backend.client.close()
    client.close()
    return found


def private_key_copies(pid, key):
    """Count what a process holds of the key file's text, and of the key itself."""
    digits = key.read_bytes().strip().removeprefix(b"bps1-private-")
    return copies_in_memory(pid, digits), copies_in_memory(pid, bytes.fromhex(digits.decode()))


def exposure_of_result(kind, *, redis_server, start_worker, tmp_path):
    """Run one task that returns a secret; return the copies found at each place."""
    secret = f"pw-{secrets.token_hex(14)}".encode()
    key, own = tmp_path / f"{kind}.key", tmp_path / f"{kind}.own"
    public_key, own_public_key = bp.generate_key(key), bp.generate_key(own)
    url = redis_server.celery_url()
    client = Celery("producer", broker=url, backend=url, set_as_current=False)
    client.conf.task_send_sent_event = True
    task, events, found = f"sealed_tasks.echo_{kind}", [], {}
    worker = start_worker(
        "sealed_app:app",
        broker=url,
        arguments=["--concurrency=1", "-E", "--loglevel=DEBUG"],
        settings={
            "bufpool_private_keys": [str(key)],
            "bufpool_result_public_keys": [own_public_key],
            "result_extended": True,
        },
    )
    with listening(client, events):
        token = bp.seal(secret, task=task, argument="password", public_key=public_key)
        pending = client.send_task(task, (token,))
        result = pending.get(timeout=TIMEOUT_SECONDS)
        wait_until(
            lambda: "task-succeeded" in {event["type"] for event in events}, what="the task's event"
        )
    found["Redis: results, extended"] = copies_in_redis(client.backend.client, secret)
    found["events"] = copies(repr(events).encode(), secret)
    found["worker's log, DEBUG"] = copies(worker.log().encode(), secret)
    found["memory of Redis"] = copies_in_memory(redis_server.pid, secret)
    found["memory of the worker's main process"] = copies_in_memory(worker.pid, secret)
    (process,) = psutil.Process(worker.pid).children()
    found["memory of the worker's child"] = copies_in_memory(process.pid, secret)
    client.backend.client.close()
    client.close()
    if kind == "sealed":
        testing.configure(bp.Settings(public_key=public_key, result_private_keys=(str(own),)))
        with bp.unseal_result(result, task=task, task_id=pending.id) as opened:
            assert opened == secret
    else:
        assert result == secret.decode()
    return found


def show(capsys, what, plain, sealed):
    rows = [f"| {place} | {count} | {sealed[place]} |" for place, count in plain.items()]
    with capsys.disabled():
        print(f"\n\n| copies found in | plain {what} | sealed {what} |\n|---|---|---|")  # noqa: T201
        print("\n".join(rows))  # noqa: T201


def test_a_sealed_result_shows_nowhere_where_a_plain_one_does(
    redis_server, start_worker, tmp_path, capsys
):
    plain, sealed = (
        exposure_of_result(
            kind, redis_server=redis_server, start_worker=start_worker, tmp_path=tmp_path
        )
        for kind in ("plain", "sealed")
    )
    show(capsys, "result", plain, sealed)
    assert [place for place, count in plain.items() if not count] == []
    assert [place for place, count in sealed.items() if count] == []


def test_a_sealed_password_shows_nowhere_where_a_plain_one_does(
    redis_server, start_worker, tmp_path, capsys
):
    plain, sealed = (
        exposure(kind, redis_server=redis_server, start_worker=start_worker, tmp_path=tmp_path)
        for kind in ("plain", "sealed")
    )
    show(capsys, "argument", plain, sealed)
    assert [place for place, count in plain.items() if not count] == []
    # without secret memory, root can look into the buffer that the task has just now
    allowed = [] if bp.stats().secure_level == "memfd" else [IN_USE]
    assert [place for place, count in sealed.items() if count and place not in allowed] == []
