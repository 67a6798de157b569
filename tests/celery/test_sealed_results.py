"""Sealed results through a real broker and worker: canvases, retries, refusals."""

import hashlib
import os
import secrets

import pytest
from celery import chain, chord, group

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.sealing import ResultToken, read_public
from tests.support.memory_scan import copies_in_memory
from tests.support.waiting import wait_until

SECRET = b"correct horse ba"
MINT = "sealed_tasks.mint"


@pytest.fixture
def keys(tmp_path):
    """Key pairs of the worker and of callers: name to (path, public text)."""
    names = ("worker", "web", "cron", "stranger")
    return {name: (str(tmp_path / name), bp.generate_key(tmp_path / name)) for name in names}


@pytest.fixture
def start(start_worker, redis_server, keys):
    def start(*arguments, **settings):
        return start_worker(
            "sealed_app:app",
            broker=redis_server.celery_url(),
            arguments=["--concurrency=1", *arguments],
            settings={
                "bufpool_private_keys": [keys["worker"][0]],
                "bufpool_public_key": keys["worker"][1],
                "bufpool_result_public_keys": [keys["web"][1], keys["cron"][1]],
                "bufpool_result_private_keys": [keys["web"][0]],
                **settings,
            },
        )

    return start


@pytest.fixture(autouse=True)
def caller(keys):
    """This process is the caller; it knows the worker's public key, and its own private ones."""
    testing.configure(
        bp.Settings(
            public_key=keys["worker"][1],
            result_private_keys=(keys["web"][0], keys["cron"][0]),
        )
    )


@pytest.fixture
def seal(keys):
    def seal(secret=SECRET):
        return bp.seal(secret, task=MINT, argument="password", public_key=keys["worker"][1])

    return seal


def opened(result, task=MINT, **options):
    with bp.unseal_result(result, task=task, **options) as secret:
        return bytes(secret)


@pytest.mark.parametrize("returns", ["buffer", "text"])
def test_a_result_opens_with_the_callers_key(start, seal, returns):
    worker = start()
    pending = worker.send(MINT, seal(), returns=returns)
    token = worker.result(pending)
    assert token.startswith("bpr1.")
    assert opened(pending) == opened(token, task_id=pending.id) == SECRET
    assert worker.run("sealed_tasks.secure_in_use") == 0


def test_a_retry_replies_to_the_key_that_the_caller_named(start, seal, keys):
    worker = start()
    pending = worker.client.send_task(
        MINT, (seal(),), {"retries": 2}, headers=bp.reply_to(keys["cron"][1])
    )
    header = ResultToken.parse(worker.result(pending)).header
    assert header.key_id == read_public(keys["cron"][1]).key_id
    assert (header.task, header.task_id) == (MINT, pending.id)
    assert opened(pending) == SECRET


def test_what_can_not_be_sealed_is_refused(start, seal, keys):
    worker = start()
    pending = worker.client.send_task(MINT, (seal(),), headers=bp.reply_to(keys["stranger"][1]))
    with pytest.raises(bp.UnknownKey, match="bufpool_result_public_keys does not list"):
        worker.result(pending)
    with pytest.raises(TypeError, match=r"result of sealed_tasks\.mint: .* not dict") as caught:
        worker.run(MINT, seal(), returns="dict")
    assert "zebra" not in str(caught.value) + worker.log()
    assert worker.run("sealed_tasks.secure_in_use") == 0


def test_without_a_key_of_the_callers_nothing_is_minted(start, seal):
    worker = start(bufpool_result_public_keys=[])
    with pytest.raises(bp.KeyFileError, match="set bufpool_result_public_keys"):
        worker.run(MINT, seal())
    # an ignored result needs none
    pending = worker.client.send_task(MINT, (seal(),), ignore_result=True)
    assert worker.run("sealed_tasks.answer", 1) == 1
    assert f"{MINT}[{pending.id}] succeeded" in worker.log()


def test_chains_and_chords_pass_tokens_on(start, seal):
    worker = start()
    make = worker.client.signature
    mint, install = make(MINT, (seal(),)), make("sealed_tasks.install")
    digest = hashlib.sha256(SECRET).hexdigest()
    assert worker.result(chain(mint, install, app=worker.client).delay()) == [digest]
    header = group([mint, mint], app=worker.client)
    assert worker.result(chord(header, install, app=worker.client).delay()) == [digest] * 2


def test_a_sealed_argument_refuses_a_sealed_result_by_name(start, seal):
    worker = start()
    make = worker.client.signature
    steps = chain(make(MINT, (seal(),)), make("sealed_tasks.stubborn"), app=worker.client)
    with pytest.raises(bp.NotSealed, match=r"got a sealed result \(bpr1\): open it with unseal"):
        worker.result(steps.delay())


def test_the_main_process_opens_nothing_for_an_error_callback(start, keys, tmp_path):
    worker = start("--time-limit=1")
    os.mkfifo(tmp_path / "gate")
    secret = secrets.token_hex(16).encode()
    token = bp.seal(
        secret, task="sealed_tasks.notify", argument="password", public_key=keys["worker"][1]
    )
    marker = tmp_path / "marker"
    make = worker.client.signature
    notify = make("sealed_tasks.notify", kwargs={"password": token, "marker": str(marker)})
    task = make("sealed_tasks.stuck", (str(tmp_path / "gate"),))
    pending = task.apply_async(link_error=notify, time_limit=1)
    with pytest.raises(Exception, match="TimeLimitExceeded"):
        worker.result(pending)
    worker.wait_for_log("opens nothing sealed, since it holds no private key")
    assert not marker.exists()
    digits = bytes.fromhex((tmp_path / "worker").read_text().strip().removeprefix("bps1-private-"))
    assert copies_in_memory(worker.pid, digits) == 0
    assert copies_in_memory(worker.pid, secret) == 0
    # an error callback that a task's own process runs is opened as ever
    failing = make("sealed_tasks.stubborn", ("plain",))
    with pytest.raises(bp.NotSealed):
        worker.result(failing.apply_async(link_error=notify))
    assert wait_until(lambda: marker.exists() and marker.read_text(), what="the callback").endswith(
        f" {len(secret)}"
    )
