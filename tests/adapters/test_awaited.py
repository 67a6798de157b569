"""Job systems that await and have no adapter: arq, taskiq, Procrastinate.

One decorator makes a call a job.
"""

import asyncio
import pickle
from contextlib import ExitStack
from typing import ClassVar

import pytest
from redis import Redis
from taskiq import AsyncTaskiqDecoratedTask
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.metrics import read_report
from tests.support.memory_scan import copies, copies_in_redis

SECRET = "correct horse battery"  # noqa: S105 - what must show nowhere
SECONDS = 20
# what arq asks of redis-py, which has a newer way
pytestmark = pytest.mark.filterwarnings("ignore:Call to '__init__' function with deprecated")


class Producer:
    """A producer for a job system whose jobs are in a Redis alone."""

    env: ClassVar = {}

    def stored(self):
        """Return what is stored elsewhere, and the name of a function that shows there."""
        return b"", b""


class Arq(Producer):
    """A producer for arq."""

    command = ("arq", "arq_app.WorkerSettings")
    module = "arq_app"

    def __init__(self, url, stack):
        from arq.connections import RedisSettings  # noqa: PLC0415 - not everywhere installed

        self._settings = RedisSettings.from_dsn(url)

    async def run(self, name, *args):
        """Return the id of a job and what it returned."""
        from arq import create_pool  # noqa: PLC0415

        pool = await create_pool(self._settings)
        try:
            job = await pool.enqueue_job(name, *args)
            return job.job_id, await job.result(timeout=SECONDS, poll_delay=0.05)
        finally:
            await pool.aclose()


class Taskiq(Producer):
    """A producer for taskiq, which knows tasks by name alone."""

    command = ("taskiq", "worker", "--workers=1", "taskiq_app:broker")
    module = "taskiq_app"

    def __init__(self, url, stack):
        self._url = url

    async def run(self, name, *args):
        """Return the id of a task and what it returned."""
        broker = ListQueueBroker(self._url).with_result_backend(RedisAsyncResultBackend(self._url))
        await broker.startup()
        try:
            labels = {"retry_on_error": True} if name == "login_at_last" else {}
            task = AsyncTaskiqDecoratedTask(broker, f"taskiq_app:{name}", stand_in, labels)
            sent = await task.kiq(*args)
            result = await sent.wait_result(timeout=SECONDS)
            result.raise_for_error()
            return sent.task_id, result.return_value
        finally:
            await broker.shutdown()


class Procrastinate(Producer):
    """A producer for Procrastinate, which keeps jobs in PostgreSQL, and results nowhere."""

    command = ("procrastinate", "--app=procrastinate_app.app", "worker")
    command += ("--fetch-job-polling-interval=0.2",)
    module = "procrastinate_app"

    def __init__(self, url, stack):
        from procrastinate import App, PsycopgConnector, SyncPsycopgConnector  # noqa: PLC0415

        from tests.support.postgres_server import PostgresServer  # noqa: PLC0415

        try:
            self._server = stack.enter_context(PostgresServer())
        except (FileNotFoundError, PermissionError) as error:
            pytest.skip(f"no PostgreSQL: {error}")
        self._redis = stack.enter_context(Redis.from_url(url))
        self.env = {"TEST_POSTGRES_URL": self._server.url}
        with App(connector=SyncPsycopgConnector(conninfo=self._server.url)).open() as app:
            app.schema_manager.apply_schema()
        self._app = lambda: App(connector=PsycopgConnector(conninfo=self._server.url))

    async def run(self, name, *args):
        """Return the id of a job, and what it noted of its result itself."""
        names = {"work": ["number"], "mint": ["password"]}.get(name, ["user", "password"])
        async with self._app().open_async() as app:
            task = app.configure_task(f"{self.module}.{name}")
            job_id = await task.defer_async(**dict(zip(names, args, strict=False)))
            async with asyncio.timeout(SECONDS):
                while await self._is_unfinished(app, job_id):  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.05)
        outcome = self._redis.get(f"outcome {job_id}")
        result = outcome and pickle.loads(outcome)  # noqa: S301 - of our own worker
        if isinstance(result, Exception):
            raise result
        return str(job_id), result

    @staticmethod
    async def _is_unfinished(app, job_id):
        status = await app.job_manager.get_job_status_async(job_id)
        return status.value in {"todo", "doing"}

    def stored(self):
        """Return all that the server has on disk."""
        return self._server.content(), b"procrastinate_app.login"


def stand_in():
    raise AssertionError


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module", params=[Arq, Taskiq, Procrastinate])
def started(request, start_host, redis_server, keys, directory):
    if request.param is not Taskiq:
        name = request.param.__name__.lower()
        pytest.importorskip(name, reason=f"{name} is not installed: make neighbours")
    (key,) = keys["private_keys"]
    settings = {
        "private_keys": [key],
        "public_key": keys["public_key"],
        "result_public_keys": [keys["public_key"]],
        "single_use_url": (broker := redis_server.client_url()),
    }
    with ExitStack() as stack:
        producer = request.param(broker, stack)
        env = {"PROMETHEUS_MULTIPROC_DIR": str(directory), **producer.env}
        host = start_host([*producer.command], broker=broker, settings=settings, env=env)
        yield host, producer
        host.close()  # before the server that it works with


@pytest.fixture
def host(started):
    return started[0]


@pytest.fixture
def run(started):
    """Run a job to its end; return its id and what it returned."""
    return lambda name, *args: asyncio.run(started[1].run(name, *args))


@pytest.fixture
def task(started):
    return lambda name: f"{started[1].module}.{name}"


def test_what_jobs_take_and_keep_is_counted(host, run, directory):
    before = read_report(directory).total
    for number in range(3):
        assert run("work", number)[1] == number
        run("keep")
    host.wait_until(
        lambda: read_report(directory).total.reclaims == before.reclaims + 3, what="the third end"
    )
    after = read_report(directory).total
    assert after.gets == before.gets + 6
    assert after.in_use == 0


def test_sealed_argument_is_opened_and_shows_nowhere(started, host, run, seal, task):
    token = seal(SECRET, task=task("login"))
    assert run("login", "ada", token)[1] == ["ada", 21, True]
    with Redis.from_url(host.broker) as redis:
        assert copies_in_redis(redis, SECRET.encode()) == 0
    stored, name = started[1].stored()
    assert name in stored
    assert copies(stored, SECRET.encode()) == 0
    assert SECRET not in host.log()


@pytest.mark.parametrize("given", ["of another task", "plain"])
def test_what_does_not_open_fails_its_job_alone(run, seal, task, given):
    token = seal(SECRET, task=task("mint")) if given != "plain" else given
    with pytest.raises(bp.SealError, match="argument 'password'"):
        run("login", "ada", token)
    assert run("login", "ada", seal(SECRET, task=task("login")))[1][0] == "ada"


def test_single_use_token_opens_again_in_retries_of_its_job_alone(run, seal, task):
    token = seal(SECRET, task=task("login_at_last"), expires=60, single_use=True)
    assert run("login_at_last", "ada", token)[1] is True
    with pytest.raises(bp.TokenReplayed):
        run("login_at_last", "ada", token)


def test_result_is_sealed_for_its_caller(host, run, seal, task, keys):
    testing.configure(
        bp.Settings(public_key=keys["public_key"], result_private_keys=tuple(keys["private_keys"]))
    )
    name, (job_id, token) = task("mint"), run("mint", seal(SECRET, task=task("mint")))
    with bp.unseal_result(token, task=name, task_id=job_id) as secret:
        assert bytes(secret) == SECRET.encode()
    testing.reset()
