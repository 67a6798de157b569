"""What RQ's producers are told: nothing is stored with a plain secret in it."""

import gc
import zlib
from datetime import timedelta

import pytest
from redis import Redis
from rq import Queue, Retry
from rq.group import Group

import bufpool_workers as bp
from bufpool_workers.rq import Job, SimpleWorker
from bufpool_workers.sealing import generate_key

SECRET = "hunter2"  # noqa: S105 - what must show nowhere


@bp.sealed("password")
def login(user, password=None):
    pass


class Account:
    @bp.sealed("password")
    def login(self, password):
        pass


def other(*args, **kwargs):
    pass


@pytest.fixture
def queue(redis_server):
    with Redis.from_url(redis_server.client_url()) as redis:
        yield Queue(connection=redis, job_class=Job)
        gc.collect()  # pipelines of refused jobs, which else connect again when they end
        redis.connection_pool.disconnect()


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    return generate_key(tmp_path_factory.mktemp("keys") / "key")


@pytest.fixture
def token(public):
    return bp.seal(SECRET, task=f"{__name__}.login", argument="password", public_key=public)


def grouped(queue, value):
    data = Queue.prepare_data(login, ("ada", value))
    return Group.create(queue.connection).enqueue_many(queue=queue, job_datas=[data])


def in_pipeline(queue, value):
    with queue.connection.pipeline() as pipeline:
        queue.enqueue(login, "ada", value, pipeline=pipeline)
        pipeline.execute()


WAYS = {
    "enqueue": lambda queue, value: queue.enqueue(login, "ada", value),
    "by keyword": lambda queue, value: queue.enqueue(login, "ada", password=value),
    "by name": lambda queue, value: queue.enqueue(f"{__name__}.login", "ada", value),
    "enqueue_call": lambda queue, value: queue.enqueue_call(login, ("ada",), {"password": value}),
    "later": lambda queue, value: queue.enqueue_in(timedelta(minutes=1), login, "ada", value),
    "method": lambda queue, value: queue.enqueue(Account().login, value),
    "pipeline": in_pipeline,
    "with retries": lambda queue, value: queue.enqueue(login, "ada", value, retry=Retry(max=3)),
    "many": lambda queue, value: queue.enqueue_many([Queue.prepare_data(login, ("ada", value))]),
    "group": grouped,
    "after another": lambda queue, value: queue.enqueue(
        login, "ada", value, depends_on=queue.enqueue(other)
    ),
    "changed": lambda queue, value: changed(queue, value),
    "argument": lambda queue, value: queue.enqueue(
        other, [{"func_name": f"{__name__}.login", "args": ("ada", value)}]
    ),
}


def changed(queue, value):
    job = Job.create(login, ("ada",), connection=queue.connection)
    job.args = ("ada", value)
    job.save()


def everything(queue):
    redis = queue.connection
    found = [redis.hgetall(key) for key in redis.scan_iter("rq:job:*", _type="hash")]
    return b"".join(zlib.decompress(job[b"data"]) + job[b"description"] for job in found)


@pytest.mark.parametrize("way", WAYS)
def test_plain_secret_is_refused_before_it_is_stored(queue, way):
    with pytest.raises(bp.NotSealed, match="argument 'password'") as refused:
        WAYS[way](queue, SECRET)
    assert SECRET not in str(refused.value)
    assert SECRET.encode() not in everything(queue)


@pytest.mark.parametrize("way", WAYS)
def test_token_is_stored(queue, token, way):
    WAYS[way](queue, token)
    assert token.encode() in everything(queue)


def test_damaged_token_is_refused(queue, token):
    with pytest.raises(bp.DamagedToken):
        queue.enqueue(login, "ada", token[:40])


def test_unknown_function_is_none_of_ours(queue):
    queue.enqueue("nowhere.login", "ada", SECRET)
    queue.enqueue(other, {"func_name": f"{__name__}.login", "password": "mine"})


def test_no_call_shows_in_the_description(queue, token):
    job = queue.enqueue(login, "ada", token)
    assert job.description == f"{__name__}.login(...)"
    assert queue.enqueue(other, 1, description="as given (by hand)").description == (
        "as given (by hand)"
    )
    stock = Queue(connection=queue.connection).enqueue(other, SECRET)
    assert SECRET in stock.description
    found = Job.fetch(stock.id, connection=queue.connection)
    assert found.description == f"{__name__}.other(...)"


def test_iterator_in_an_argument_is_kept(queue, token):
    job = queue.enqueue(other, iter([token, 1]))
    assert Job.fetch(job.id, connection=queue.connection).args == ([token, 1],)


def test_function_where_its_name_is_wanted_is_named(public):
    with pytest.raises(TypeError, match=f"got function: pass '{__name__}.login'"):
        bp.seal(SECRET, task=login, argument="password", public_key=public)


def test_job_class_of_another_kind_is_refused(queue):
    class Own:
        pass

    with pytest.raises(TypeError, match=r"Own must inherit from bufpool_workers\.rq\.Job"):
        SimpleWorker([queue], connection=queue.connection, job_class=Own)


def test_job_that_is_made_by_parts_is_checked_too(queue):
    job = Job("by-parts", connection=queue.connection)
    job.func_name = f"{__name__}.login"
    assert job.data
    job.kwargs = {"password": SECRET}
    with pytest.raises(bp.NotSealed):
        job.save()
