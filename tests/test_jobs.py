"""`as_job`: each call of a function is a job, whether it is awaited or not."""

import asyncio
import inspect
import pickle

import pytest

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import current_job
from tests.adapters import futures_work as work


@pytest.fixture(autouse=True)
def own_process():
    testing.configure(bp.Settings())
    yield
    testing.reset()


def fetch(ctx, number=1):
    return current_job(), bp.buffer(number)


async def fetch_later(ctx, number=1):
    await asyncio.sleep(0)
    return current_job(), bp.buffer(number)


def call(function, *args, **kwargs):
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


BOTH = pytest.mark.parametrize("function", [fetch, fetch_later], ids=["plain", "coroutine"])


@BOTH
def test_what_a_call_holds_is_taken_back_when_it_is_over(function):
    made = bp.as_job(function)
    assert inspect.iscoroutinefunction(made) == inspect.iscoroutinefunction(function)
    with pytest.warns(ResourceWarning, match=rf"{function.__name__} ended holding a buffer of 3"):
        job, buffer = call(made, {}, number=3)
    assert buffer.released
    assert job.name == made.name == f"tests.test_jobs.{function.__name__}"
    assert current_job() is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@BOTH
def test_each_call_has_an_id_or_the_one_that_the_job_system_gave_it(function):
    ids = {call(bp.as_job(function), {})[0].id for _ in range(2)}
    assert len(ids) == 2
    by_name = bp.as_job(job_id=lambda ctx: ctx["job_id"])(function)
    assert call(by_name, {"job_id": "a1"})[0].id == "a1"
    counted = bp.as_job(job_id=lambda number, ctx=None: number)(function)
    assert call(counted, {}, 7)[0].id == "7"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("given", [None, "", True, b"a1"])
@BOTH
def test_id_that_says_nothing_is_refused(function, given):
    made = bp.as_job(job_id=lambda ctx: given)(function)
    with pytest.raises(TypeError, match=rf"job_id of {function.__name__} returned"):
        call(made, {})
    assert bp.stats().total.gets == 0


async def agen():
    yield


@pytest.mark.parametrize(
    ("thing", "options", "said"),
    [
        ("fetch", {}, "as_job is for functions, not str"),
        (agen, {}, "as_job: agen is a generator function"),
        (fetch, {"job_id": "a1"}, "as_job: job_id is a function, not str"),
        (fetch, {"job_id": lambda key: key}, "as_job: job_id of fetch wants key; the task has ctx"),
    ],
)
def test_what_can_not_be_a_job_is_refused(thing, options, said):
    with pytest.raises(TypeError, match=said):
        bp.as_job(**options)(thing) if options else bp.as_job(thing)


@pytest.mark.parametrize(
    "decorate", [bp.sealed("number"), bp.sealed_result, bp.pooled_buffer(8, name="number")]
)
@BOTH
def test_it_stands_above_the_other_decorators(decorate, function):
    with pytest.raises(TypeError, match="stands below as_job, not above it"):
        decorate(bp.as_job(function))


@BOTH
def test_tokens_are_sealed_for_what_it_made(function):
    with testing.keys_in_memory():
        token = bp.seal("secret", task=bp.as_job(function), argument="number")
        opened = bp.as_job(bp.sealed("number")(function))
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            call(opened, {}, token)  # the function gets a buffer, and wants a size


def test_job_inside_a_job_ends_alone():
    @bp.as_job
    def inner():
        return bp.buffer(1)

    @bp.as_job
    def outer():
        mine = bp.buffer(2)
        with pytest.warns(ResourceWarning, match=r"inner ended holding a buffer of 1 bytes"):
            assert inner().released
        assert not mine.released
        mine.release()

    outer()
    assert bp.stats().total.reclaims == 1


def test_it_is_pickled_as_a_function_is():
    for function in (work.keep, bp.as_job(work.fill), bp.as_job(job_id=work.id_of)(work.fill)):
        again = pickle.loads(pickle.dumps(function))  # noqa: S301 - made here
        assert again.name == function.name
    assert pickle.loads(pickle.dumps(work.keep)) is work.keep  # noqa: S301
