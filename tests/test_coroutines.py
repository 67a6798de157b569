"""Decorated coroutine functions, and what a job's scope reaches under asyncio."""

import asyncio
import concurrent.futures
import functools
import inspect
import threading

import pytest
from celery import Celery

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import Job, current_job, current_runtime


@pytest.fixture(autouse=True)
def runtime():
    testing.reset()
    yield current_runtime()
    assert bp.stats().total.in_use == 0
    testing.reset()


def test_buffer_stays_until_a_coroutine_function_was_awaited():
    @bp.pooled_buffer(lambda path: len(path))
    async def work(path, *, buf):
        await asyncio.sleep(0)
        return path, len(buf), buf.released

    assert inspect.iscoroutinefunction(work)
    assert str(inspect.signature(work)) == "(path)"
    assert asyncio.run(work("abc")) == ("abc", 3, False)


def test_buffer_goes_back_when_the_coroutine_raises_or_is_cancelled():
    begun = asyncio.Event()

    @bp.pooled_buffer(100)
    async def work(what, *, buf):
        if what == "raise":
            raise KeyError(what)
        begun.set()
        await asyncio.Event().wait()

    async def main():
        with pytest.raises(KeyError):
            await work("raise")
        task = asyncio.ensure_future(work("wait"))
        await begun.wait()
        assert bp.stats().total.in_use == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bp.stats().total.in_use == 0

    asyncio.run(main())


def test_coroutine_that_is_never_awaited_takes_no_buffer():
    @bp.pooled_buffer(100)
    async def work(*, buf):
        raise AssertionError

    work().close()
    assert bp.stats().total.gets == 0


def test_concurrent_calls_have_buffers_of_their_own():
    @bp.pooled_buffer(8)
    async def work(number, *, buf):
        buf[0:1] = bytes([number])
        await asyncio.sleep(0)
        return buf[0]

    async def main():
        return await asyncio.gather(*map(work, range(50)))

    assert asyncio.run(main()) == list(range(50))


def test_coroutine_function_as_an_object_is_awaited():
    class Work:
        async def __call__(self, *, buf):
            return len(buf)

    assert asyncio.run(bp.pooled_buffer(5)(Work())()) == 5
    partial = functools.partial(Work.__call__, None)
    assert asyncio.run(bp.pooled_buffer(5)(partial)()) == 5


async def begin(*, buf):
    raise AssertionError


def test_wrapper_below_that_runs_the_coroutine_is_a_plain_function():
    def run(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            return asyncio.run(function(*args, **kwargs))

        return call

    @bp.pooled_buffer(5)
    @run
    async def work(*, buf):
        return len(buf)

    assert work() == 5


def test_wrapper_below_that_returns_a_coroutine_is_refused_at_the_call():
    @bp.pooled_buffer(5)
    @functools.wraps(begin)
    def call(*args, **kwargs):
        return begin(*args, **kwargs)

    with pytest.raises(TypeError, match="begin: the decorator below returns a coroutine, which"):
        call()


@pytest.fixture
def keys(tmp_path):
    public_key = bp.generate_key(tmp_path / "key")
    paths = [str(tmp_path / "key")]
    bp.configure(
        public_key=public_key,
        private_keys=paths,
        result_public_keys=[public_key],
        result_private_keys=paths,
    )


@pytest.mark.usefixtures("keys")
def test_sealed_coroutine_has_its_argument_open_until_it_was_awaited(runtime):
    @bp.pooled_buffer(8)
    @bp.sealed("password")
    async def login(user, password, *, buf):
        await asyncio.sleep(0)
        return user, bytes(password), password.kind, len(buf), password

    async def main():
        token = bp.seal("secret", task="shop.login", argument="password")
        job = Job("1", "shop.login", function=inspect.unwrap(login))
        runtime.begin_job(job)
        result = await login("ada", token)
        assert runtime.end_job(job) == 0
        return result

    *result, password = asyncio.run(main())
    assert result == ["ada", b"secret", "secure", 8]
    assert password.released


@pytest.mark.usefixtures("keys")
def test_result_of_a_coroutine_is_sealed_when_it_was_awaited(runtime, tmp_path):
    @bp.sealed_result
    @bp.pooled_buffer(16, kind="secure")
    async def mint(*, buf):
        buf[:] = bytes(16)
        await asyncio.sleep(0)
        return buf

    async def main():
        assert isinstance(await mint(), bp.Buffer)  # a call that is no job is a plain one
        job = Job("1", "shop.mint", function=inspect.unwrap(mint))
        runtime.begin_job(job)
        result = await asyncio.ensure_future(mint())
        assert runtime.end_job(job) == 0
        return result

    with bp.unseal_result(asyncio.run(main()), task="shop.mint", task_id="1") as secret:
        assert bytes(secret) == bytes(16)


class TestCelery:
    """Celery calls a task and does not await it."""

    def test_setup_refuses_a_coroutine_below_our_decorator(self):
        app = Celery("shop", set_as_current=False)
        app.task(name="shop.begin", shared=False)(bp.pooled_buffer(1)(begin))
        app.finalize()
        with pytest.raises(
            TypeError, match=r"task shop.begin is a coroutine function, which Celery does not"
        ):
            bp.setup(app)

    def test_other_coroutines_are_their_author_s_own_matter(self):
        app = Celery("shop", set_as_current=False)
        app.task(name="shop.begin", shared=False)(begin)
        app.finalize()
        bp.setup(app)

    def test_wrapper_that_runs_the_coroutine_is_no_coroutine(self):
        app = Celery("shop", set_as_current=False)
        decorated = bp.pooled_buffer(1)(begin)
        app.task(name="shop.begin", shared=False)(functools.wraps(decorated)(lambda: None))
        app.finalize()
        bp.setup(app)


async def _here():
    return bp.buffer(1)


async def _awaited_task():
    return await asyncio.create_task(_here())


async def _gathered():
    (buffer,) = await asyncio.gather(_here())
    return buffer


async def _in_a_group():
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_here())
    return task.result()


async def _to_thread():
    return await asyncio.to_thread(bp.buffer, 1)


async def _callback():
    taken = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: taken.set_result(bp.buffer(1)))
    return await taken


async def _in_an_executor():
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, bp.buffer, 1)


async def _in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(bp.buffer(1)))
    thread.start()
    await asyncio.to_thread(thread.join)
    return found[0]


REACHED = {
    "the coroutine itself, and what it awaits": _here,
    "`asyncio.create_task`, `TaskGroup`": _awaited_task,
    "`TaskGroup`": _in_a_group,
    "`asyncio.gather`": _gathered,
    "`asyncio.to_thread`": _to_thread,
    "`loop.call_soon`, `call_later`": _callback,
}
NOT_REACHED = {
    "`loop.run_in_executor`": _in_an_executor,
    "`threading.Thread`": _in_a_thread,
}


async def run_job(runtime, work):
    """Run it as a job; return its buffer, and how many the job's end took back."""
    job = Job("1", "job")
    runtime.begin_job(job)
    buffer = await work()
    return buffer, runtime.end_job(job)


@pytest.mark.parametrize("work", REACHED.values(), ids=REACHED)
def test_scope_of_a_job_reaches(runtime, work):
    with pytest.warns(ResourceWarning, match="job ended holding a buffer of 1 bytes"):
        buffer, taken = asyncio.run(run_job(runtime, work))
    assert (taken, buffer.released) == (1, True)


@pytest.mark.parametrize("work", NOT_REACHED.values(), ids=NOT_REACHED)
def test_scope_of_a_job_does_not_reach(runtime, work):
    buffer, taken = asyncio.run(run_job(runtime, work))
    assert (taken, buffer.released) == (0, False)
    buffer.release()


def test_task_that_outlives_its_job_owns_what_it_takes_later(runtime):
    async def main():
        over = asyncio.Event()

        async def outlive():
            held = bp.buffer(2)
            assert current_job() is job
            await over.wait()
            assert held.released  # it was the job's
            assert current_job() is None
            return bp.buffer(1)

        job = Job("1", "job")
        runtime.begin_job(job)
        task = asyncio.create_task(outlive())
        await asyncio.sleep(0)
        with pytest.warns(ResourceWarning, match="job ended holding a buffer of 2 bytes"):
            assert runtime.end_job(job) == 1
        over.set()
        buffer = await task
        assert not buffer.released
        buffer.release()

    asyncio.run(main())


def test_jobs_at_the_same_time_take_back_only_their_own(runtime):
    async def job(number):
        mine = Job(str(number), "job")
        runtime.begin_job(mine)
        buffer = bp.buffer(1)
        await asyncio.sleep(0)
        if number % 2:
            buffer.release()
        return runtime.end_job(mine)

    async def main():
        return await asyncio.gather(*(asyncio.create_task(job(n)) for n in range(6)))

    with pytest.warns(ResourceWarning, match="job ended holding"):
        assert asyncio.run(main()) == [1, 0, 1, 0, 1, 0]
