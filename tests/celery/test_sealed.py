"""Sealed arguments through a real broker and worker: canvases, retries, refusals, rotation."""

import functools
import re
import signal
import time

import pytest
from celery import chain, chord, group

import bufpool_workers as bp
from bufpool_workers.errors import UNSEAL_FAILURES
from tests.support.celery_worker import connected
from tests.support.scrape import scrape, value

PASSWORD = "correct horse battery staple"  # noqa: S105 - of nobody
TIMEOUT_SECONDS = 30


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "worker.key"
    return path, bp.generate_key(path)


@pytest.fixture
def url(redis_server):
    return redis_server.celery_url()


@pytest.fixture
def start(start_worker, url):
    def start(*paths, arguments=("--concurrency=1",), settings=(), **options):
        return start_worker(
            "sealed_app:app",
            broker=url,
            arguments=arguments,
            settings={"bufpool_private_keys": [str(path) for path in paths], **dict(settings)},
            **options,
        )

    return start


@pytest.fixture
def seal(key):
    def seal(task, argument="password", secret=PASSWORD, **options):
        options.setdefault("public_key", key[1])
        return bp.seal(secret, task=f"sealed_tasks.{task}", argument=argument, **options)

    return seal


@pytest.fixture
def producer(url):
    """An app that knows no tasks, so that it publishes whatever it is told to."""
    with connected(url) as app:
        yield app


def get(result):
    return result.get(timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pool=prefork", "--concurrency=1"],
        ["--pool=solo"],
        ["--pool=threads", "--concurrency=2"],
        ["--pool=gevent", "--concurrency=2"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_pool_opens_by_position_and_by_keyword(start, key, seal, arguments):
    worker = start(key[0], arguments=arguments)
    task = functools.partial(worker.run, "sealed_tasks.both")
    seal = functools.partial(seal, "both")
    expected = ["sealed_tasks.both", PASSWORD, "1234", 4096]
    assert task(seal(), seal("pin", "1234")) == expected
    assert task(pin=seal("pin", "1234"), password=seal()) == expected
    assert worker.run("sealed_tasks.secure_in_use") == 0


def refuse_unsealed_result(producer):
    """See a worker refuse to publish a task whose sealed argument would be another's result."""
    steps = chain(
        producer.signature("sealed_tasks.answer", ("open secret",)),
        producer.signature("sealed_tasks.stubborn"),
        app=producer,
    )
    with pytest.raises(bp.NotSealed, match=r"sealed_tasks\.stubborn, argument 'password'"):
        get(steps.delay())


def test_a_spawned_child_opens_and_refuses_to_publish(start, key, seal, producer):
    worker = start(key[0], settings={"worker_pool_start_method": "spawn"})
    assert worker.run("sealed_tasks.stubborn", seal("stubborn")) == PASSWORD
    refuse_unsealed_result(producer)
    assert len(re.findall(r"sealed_tasks\.stubborn\[.*\] received", worker.log())) == 1


def test_canvases_and_eta(start, key, seal, producer):
    start(key[0])
    make = producer.signature
    answer = make("sealed_tasks.answer", ("x",))
    after = make("sealed_tasks.after", kwargs={"password": seal("after")})
    by_position = make("sealed_tasks.after", (seal("after"),))
    later = by_position.clone().set(countdown=0.5)
    group_of_two = group([answer, answer], app=producer)
    assert get(chain(answer, after, by_position, app=producer).delay())[1] == PASSWORD
    assert get(chain(answer, later, app=producer).delay()) == ["x", PASSWORD]
    assert get(chord(group_of_two, after, app=producer).delay()) == [["x", "x"], PASSWORD]
    in_group = group([by_position, after], app=producer)
    assert get(chain(answer, in_group, app=producer).delay()) == [["x", PASSWORD]] * 2


@pytest.mark.parametrize("single_use", [False, True])
def test_a_retry_opens_again(start, key, seal, single_use):
    worker = start(key[0])
    token = seal("retried", expires=300, single_use=single_use)
    assert worker.run("sealed_tasks.retried", token, times=2) == [PASSWORD, 2]


def test_a_single_use_token_opens_for_one_task_only(start, key, seal):
    worker = start(key[0])
    token = seal("stubborn", expires=300, single_use=True)
    assert worker.run("sealed_tasks.stubborn", token) == PASSWORD
    with pytest.raises(bp.TokenReplayed, match=r"sealed_tasks\.stubborn, argument 'password'"):
        worker.run("sealed_tasks.stubborn", token)
    again = seal("stubborn", expires=300, single_use=True)
    assert worker.run("sealed_tasks.stubborn", again) == PASSWORD


def test_what_opens_and_what_does_not_is_counted_by_reason(start, key, seal, monkeypatch):
    worker = start(key[0], settings={"bufpool_metrics_port": 0})
    other = bp.generate_key(key[0].with_name("other.key"))
    used = seal("stubborn", expires=300, single_use=True)
    damaged = seal("stubborn")
    with monkeypatch.context() as past:
        past.setattr(time, "time", lambda: 1.7e9)
        expired = seal("stubborn", expires=10)
    tokens = {
        "expired": expired,
        "replayed": used,
        "damaged": damaged[: damaged.index(".", 6) + 8],
        "not_sealed": "zebra",
        "wrong_task": seal("sealed"),
        "unknown_key": seal("stubborn", public_key=other),
    }
    for token in (used, seal("stubborn")):
        worker.run("sealed_tasks.stubborn", token)
    for token in (*tokens.values(), "zebra"):
        with pytest.raises(bp.SealError):
            worker.run("sealed_tasks.stubborn", password=token)
    samples = scrape(worker)
    name = "bufpool_unseal_failures_total"
    counted = {reason: value(samples, name, reason=reason) for reason in UNSEAL_FAILURES}
    assert counted == {
        **dict.fromkeys(UNSEAL_FAILURES, 0),
        **dict.fromkeys(tokens, 1),
        "not_sealed": 2,
    }
    assert value(samples, "bufpool_unsealed_total") == 2
    assert {name for name, *_ in samples if "unseal" in name} == {name, "bufpool_unsealed_total"}


@pytest.mark.parametrize("sealed_for", [None, ("sealed", "password"), ("stubborn", "pin")])
def test_what_does_not_open_fails_at_once_whatever_autoretry_says(start, key, seal, sealed_for):
    worker = start(key[0], arguments=["--concurrency=1", "--loglevel=DEBUG"])
    value = seal(*sealed_for) if sealed_for else "zebra"
    error = bp.OpenFailed if sealed_for else bp.NotSealed
    with pytest.raises(error, match=r"sealed_tasks\.stubborn, argument 'password'") as caught:
        worker.run("sealed_tasks.stubborn", password=value)
    assert "zebra" not in str(caught.value)
    assert "Retry in" not in worker.log()
    assert worker.run("sealed_tasks.secure_in_use") == 0


def test_a_task_whose_result_would_be_an_unsealed_argument_is_not_published(start, key, producer):
    worker = start(key[0])
    refuse_unsealed_result(producer)
    assert "sealed_tasks.stubborn[" not in worker.log()


def test_keys_are_rotated_without_losing_a_task(start, seal, tmp_path):
    """The steps of the README: new key to all workers, then to producers, then drop the old one."""
    old, new = tmp_path / "old.key", tmp_path / "new.key"
    seal_old = functools.partial(seal, "stubborn", public_key=bp.generate_key(old))
    first = start(old)
    assert first.run("sealed_tasks.stubborn", seal_old()) == PASSWORD
    waiting = first.client.signature("sealed_tasks.stubborn", (seal_old(),))
    first.stop(signal.SIGTERM)
    pending = waiting.delay()

    seal_new = functools.partial(seal, "stubborn", public_key=bp.generate_key(new))
    second = start(new, old)
    assert second.result(pending) == PASSWORD
    assert second.run("sealed_tasks.stubborn", seal_new()) == PASSWORD
    second.stop(signal.SIGTERM)

    third = start(new)
    assert third.run("sealed_tasks.stubborn", seal_new()) == PASSWORD
    with pytest.raises(bp.UnknownKey, match=r"stubborn, argument 'password': sealed to key"):
        third.run("sealed_tasks.stubborn", seal_old())


def test_a_worker_with_a_key_that_others_may_read_does_not_start(start, key):
    key[0].chmod(0o644)
    worker = start(key[0], ready=False)
    assert worker.wait() not in (0, -signal.SIGKILL)
    assert "worker.key: mode 0644 lets others use it; run chmod 600 on it" in worker.log()
    assert " ready." not in worker.log()


def test_a_key_that_is_none_is_told_of_before_the_first_task(start, key, seal):
    key[0].write_text("bps1-private-")
    worker = start(key[0])
    worker.wait_for_log("no private keys; tasks with sealed arguments will fail")
    with pytest.raises(bp.KeyFileError, match="expected a private key, found something else"):
        worker.run("sealed_tasks.stubborn", seal("stubborn"))


def test_a_key_from_systemds_credentials(start, key, seal):
    directory = {"CREDENTIALS_DIRECTORY": str(key[0].parent)}
    worker = start("credential:worker.key", env=directory)
    assert worker.run("sealed_tasks.stubborn", seal("stubborn")) == PASSWORD
