"""Sealed results of job systems other than Celery: what they store is a token, and nothing else."""

import secrets
from contextlib import closing
from unittest import mock

import dramatiq
import pytest
from dramatiq.results import ResultFailure
from huey import RedisHuey
from huey.exceptions import TaskException
from redis import Redis
from rq import Queue, Retry

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.sealing import ResultToken, read_public
from tests.support.dramatiq_client import DramatiqClient
from tests.support.waiting import wait_until


class DramatiqCaller:
    """A caller of `dramatiq`, with the host's own client."""

    command = ("dramatiq", "dramatiq_app", "--processes=1", "--threads=2")
    task = "mint"
    failure = ResultFailure

    def __init__(self, url):
        self.client = DramatiqClient(url)
        self.redis = self.client.redis

    def send(self, name, *args, reply_to=None, **kwargs):
        return self.client.send_with(name, args, kwargs, reply_to or {})

    def wait(self, result):
        return self.client.result(result)

    def id_of(self, result):
        return result.message_id

    def opened(self, result, task):
        with (  # a message looks for its result with the broker of the process
            mock.patch.object(dramatiq.broker, "global_broker", self.client.broker),
            bp.unseal_result(result, task=task) as secret,
        ):
            return bytes(secret)

    def close(self):
        self.client.close()


class RQCaller:
    """A caller of `rq worker`."""

    command = ("rq", "worker", "--worker-class", "bufpool_workers.rq.SimpleWorker", "--url")
    task = "rq_jobs.mint"
    failure = RuntimeError

    def __init__(self, url):
        self.redis = Redis.from_url(url)
        self.queue = Queue(connection=self.redis)

    def send(self, name, *args, reply_to=None, **kwargs):
        return self.queue.enqueue(name, args=args, kwargs=kwargs, meta=reply_to, retry=Retry(max=3))

    def wait(self, result):
        wait_until(lambda: result.get_status() in {"finished", "failed"}, what="the job's end")
        if result.get_status() == "failed":
            raise RuntimeError(result.latest_result().exc_string)
        return result.return_value()

    def id_of(self, result):
        return result.id

    def opened(self, result, task):
        with bp.unseal_result(result, task=task) as secret:
            return bytes(secret)

    def close(self):
        self.redis.connection_pool.disconnect()


class HorseCaller(RQCaller):
    """A caller of `rq worker` with a horse for each job."""

    command = ("rq", "worker", "--worker-class", "bufpool_workers.rq.Worker", "--url")


class HueyCaller(RQCaller):
    """A caller of `huey_consumer`."""

    command = ("huey_consumer", "huey_app.huey", "--workers=1", "--worker-type=process")
    task = "huey_app.mint"
    failure = TaskException

    def __init__(self, url):
        self.huey = RedisHuey("shop", url=url)
        self.redis = self.huey.storage.conn

        def mint(*args, **kwargs):
            raise AssertionError

        mint.__module__ = "huey_app"
        self._mint = self.huey.task(retries=3)(mint)

    def send(self, name, *args, reply_to=None, **kwargs):
        return self._mint(*args, **kwargs, **(reply_to or {}))

    def wait(self, result):
        return result.get(blocking=True, timeout=20, preserve=True)


CALLERS = {
    "dramatiq": DramatiqCaller,
    "rq": RQCaller,
    "rq, horses": HorseCaller,
    "huey": HueyCaller,
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Key pairs of the worker and of callers: name to (path, public text)."""
    folder = tmp_path_factory.mktemp("pairs")
    names = ("worker", "web", "cron", "stranger")
    return {name: (str(folder / name), bp.generate_key(folder / name)) for name in names}


@pytest.fixture(scope="module", params=CALLERS)
def started(request, start_host, redis_server, pairs):
    caller, broker = CALLERS[request.param], redis_server.client_url()
    command = [*caller.command, *([broker] if caller.command[-1] == "--url" else [])]
    settings = {
        "private_keys": [pairs["worker"][0]],
        "public_key": pairs["worker"][1],
        "result_public_keys": [pairs["web"][1], pairs["cron"][1]],
    }
    with closing(caller(broker)) as client:
        yield start_host(command, settings=settings, broker=broker), client


@pytest.fixture(autouse=True)
def own_settings(pairs):
    testing.configure(
        bp.Settings(
            public_key=pairs["worker"][1],
            result_private_keys=(pairs["web"][0], pairs["cron"][0]),
        )
    )
    yield
    testing.reset()


@pytest.fixture
def host(started):
    return started[0]


@pytest.fixture
def caller(started):
    return started[1]


@pytest.fixture
def secret():
    return secrets.token_hex(16).encode()


@pytest.fixture
def seal(pairs):
    def seal(secret, task):
        return bp.seal(secret, task=task, argument="password", public_key=pairs["worker"][1])

    return seal


def everything(caller):
    redis = caller.redis
    return b"".join(key + (redis.dump(key) or b"") for key in redis.scan_iter())


def opened(token, **options):
    with bp.unseal_result(token, **options) as secret:
        return bytes(secret)


def test_result_is_stored_as_a_token_that_its_caller_opens(host, caller, seal, secret):
    result = caller.send(caller.task, seal(secret, caller.task))
    token = caller.wait(result)
    assert token.startswith("bpr1.")
    assert opened(token, task=caller.task, task_id=caller.id_of(result)) == secret
    assert caller.opened(result, caller.task) == secret
    assert secret not in everything(caller)
    assert secret.decode() not in host.log()


def test_retry_replies_to_the_key_that_the_caller_named(caller, seal, secret, pairs):
    token = seal(secret, caller.task)
    result = caller.send(caller.task, token, tries=2, reply_to=bp.reply_to(pairs["cron"][1]))
    wait_until(
        lambda: int(caller.redis.hget("tries of mint", secret[:8].hex()) or 0) == 2, what="a retry"
    )
    header = ResultToken.parse(caller.wait(result)).header
    assert header.key_id == read_public(pairs["cron"][1]).key_id
    assert (header.task, header.task_id) == (caller.task, caller.id_of(result))
    assert caller.opened(result, caller.task) == secret


def test_key_that_the_worker_does_not_list_is_refused_once(host, caller, seal, secret, pairs):
    before = caller.redis.hget("noted", "mints")
    reply_to = bp.reply_to(pairs["stranger"][1])
    result = caller.send(caller.task, seal(secret, caller.task), reply_to=reply_to)
    with pytest.raises(caller.failure, match="UnknownKey"):
        caller.wait(result)
    assert caller.redis.hget("noted", "mints") == before
    assert secret not in everything(caller)
    assert secret.decode() not in host.log()


def test_result_of_a_failed_job_raises_for_its_caller(caller, pairs):
    result = caller.send(caller.task, "plain")
    with pytest.raises(caller.failure):
        caller.opened(result, caller.task)


@pytest.mark.parametrize("started", ["dramatiq", "rq"], indirect=True)
def test_coroutines_result_is_sealed(host, caller, seal, secret):
    task = f"{caller.task}_later"
    result = caller.send(task, seal(secret, task))
    assert caller.wait(result).startswith("bpr1.")
    assert caller.opened(result, task) == secret
    assert secret not in everything(caller)


@pytest.mark.parametrize("started", ["dramatiq"], indirect=True)
def test_result_that_nobody_gets_is_none(host, caller):
    caller.send("mint_for_nobody")
    wait_until(lambda: caller.redis.hget("noted", "ignored"), what="the job")
    assert "has been discarded" not in host.log()


def test_function_where_its_name_is_wanted_is_named():
    with pytest.raises(TypeError, match=r"got function: pass '.*\.everything'"):
        bp.unseal_result("bpr1.", task=everything, task_id="1")
