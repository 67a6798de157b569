"""Huey's own consumer with processes, threads and greenlets: totals, ends, sealed arguments."""

import signal
from contextlib import contextmanager

import pytest
from huey import MemoryHuey, RedisHuey, chord
from huey.exceptions import TaskException

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.huey import setup
from bufpool_workers.sealing import generate_key
from tests.support.host_client import JobNotes, check_totals
from tests.support.host_process import FOLDER
from tests.support.scrape import value
from tests.support.scripts import run_script
from tests.support.waiting import wait_until

SECRET = "correct horse battery"  # noqa: S105 - what must show nowhere
KINDS = ["process", "thread", "greenlet"]


@pytest.fixture(scope="module")
def start(start_host, keys):
    def start(kind, *, settings=None, **options):
        command = ["huey_consumer", "huey_app.huey", "--workers=2", f"--worker-type={kind}"]
        if kind == "greenlet":
            command[0] = str(FOLDER / "huey_greenlets.py")
        else:
            command.append("--health-check-interval=1")
        return start_host(command, settings={**keys, **(settings or {})}, **options)

    return start


class Client(JobNotes):
    """A producer that knows tasks by name alone: nothing checks what it stores."""

    def __init__(self, url):
        self.huey = RedisHuey("shop", url=url)
        self.redis = self.huey.storage.conn
        self._tasks = {}

    def send(self, name, *args, **options):
        if name not in self._tasks:

            def stand_in(*_args):
                raise AssertionError

            stand_in.__module__, stand_in.__name__ = "huey_app", name
            self._tasks[name] = self.huey.task(**options)(stand_in)
        return self._tasks[name](*args)

    def run(self, name, *args, **options):
        return self.send(name, *args, **options).get(blocking=True, timeout=20)


@contextmanager
def connected(host):
    client = Client(host.broker)
    try:
        yield client
    finally:
        client.redis.connection_pool.disconnect()


def jobs(client):
    before = client.noted().get("runs", 0)
    sent = [client.send("work", number) for number in range(10)]
    for _ in range(2):
        assert client.run("keep") is True
        client.send("fail")
    assert [one.get(blocking=True, timeout=20) for one in sent] == list(range(10))
    wait_until(lambda: client.noted()["runs"] == before + 14, what="the end of all tasks")


@pytest.mark.parametrize("kind", KINDS)
def test_totals_equal_what_tasks_noted(start, kind):
    host = start(kind)
    with connected(host) as client:
        jobs(client)
        samples = check_totals(host, client)
        processes = 2 if kind == "process" else 1
        assert value(samples, "bufpool_processes") == processes
        assert value(samples, "bufpool_warmed_processes") == processes
        if kind == "process":
            before = set(host.members())
            client.send("die")
            wait_until(lambda: set(host.members()) - before, what="another worker")
            jobs(client)
            check_totals(host, client)
        if kind != "thread":  # Huey ends no task in a thread
            with pytest.raises(TaskException, match="TaskTimeout"):
                client.run("spin")
            assert client.run("numbers")["in_use"] == 0
    host.send_signal(signal.SIGINT)
    assert host.wait() == 0


@pytest.fixture(scope="module", params=["process", "thread"])
def sealed_host(start, request):
    return start(request.param)


def test_sealed_argument_is_opened_and_shows_nowhere(sealed_host, seal):
    with connected(sealed_host) as client:
        assert client.run("login", "ada", seal(SECRET, task="huey_app.login")) == ["ada", 21, True]
        assert SECRET.encode() not in client.everything()
    assert SECRET not in sealed_host.log()


@pytest.mark.parametrize("how", ["elsewhere", "plain"])
def test_what_does_not_open_is_not_retried(sealed_host, seal, how):
    given = seal(SECRET, task="another") if how == "elsewhere" else "plain-from-elsewhere"
    with connected(sealed_host) as client:
        logins = client.noted().get("logins")
        with pytest.raises(TaskException, match="argument 'password'"):
            client.run("login", "ada", given, retries=3)
        client.run("numbers")
        assert "Requeueing huey_app.login" not in sealed_host.log()
        assert client.noted().get("logins") == logins
        assert client.huey.pending_count() == 0
    assert "plain-from-elsewhere" not in sealed_host.log()


def test_single_use_token_survives_retries_of_its_task_alone(sealed_host, seal):
    token = seal(SECRET, task="huey_app.login_at_last", expires=60, single_use=True)
    user = f"ada{sealed_host.pid}"
    with connected(sealed_host) as client:
        client.send("login_at_last", user, token, retries=5)
        wait_until(lambda: client.noted().get(f"tries {user}") == 3, what="the third try")
        with pytest.raises(TaskException, match="TokenReplayed"):
            client.run("login_at_last", "bob", token, retries=5)
        assert "tries bob" not in client.noted()


def test_missing_huey_names_its_extra():
    script = "import sys; sys.modules['huey'] = None; import bufpool_workers.huey"
    assert "pip install 'bufpool-workers[huey]'" in run_script(script).stderr


# producers


@pytest.fixture
def app(tmp_path):
    testing.reset()
    huey = MemoryHuey("producer")
    public = generate_key(tmp_path / "key")
    setup(huey, {"public_key": public, "private_keys": [str(tmp_path / "key")]})

    class App:
        @staticmethod
        @huey.task()
        @bp.sealed("password")
        def login(user, password=None):
            return bytes(password)

        @staticmethod
        @huey.task()
        def other(*args, **kwargs):
            pass

    App.huey = huey
    App.token = bp.seal(SECRET, task=f"{__name__}.login", argument="password")
    yield App
    testing.reset()


WAYS = {
    "call": lambda app, value: app.login("ada", value),
    "by keyword": lambda app, value: app.login("ada", password=value),
    "later": lambda app, value: app.login.schedule(("ada", value), delay=60),
    "map": lambda app, value: app.login.map([("ada", value)]),
    "pipeline": lambda app, value: app.huey.enqueue(
        app.other.s().then(app.other).then(app.login, "ada", value)
    ),
    "error handler": lambda app, value: app.huey.enqueue(
        app.other.s().error(app.login, "ada", value)
    ),
    "chord": lambda app, value: app.huey.enqueue(
        chord([app.other.s(1), app.other.s(2)], app.login.s("ada", value))
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_plain_secret_is_refused_before_it_is_stored(app, way):
    with pytest.raises(bp.NotSealed, match="argument 'password'") as refused:
        WAYS[way](app, SECRET)
    assert SECRET not in str(refused.value)
    assert app.huey.pending_count() == app.huey.scheduled_count() == 0


@pytest.mark.parametrize("way", WAYS)
def test_token_is_stored(app, way):
    WAYS[way](app, app.token)
    assert app.huey.pending_count() + app.huey.scheduled_count() >= 1


def test_iterator_in_a_later_task_of_a_pipeline_is_kept(app):
    later = app.other.s(iter([app.token, 1]))
    app.huey.enqueue(app.other.s(iter([2])).then(later))
    stored = app.huey.dequeue()
    assert stored.args == ([2],)
    assert stored.on_complete.args == ([app.token, 1],)


def test_task_runs_immediately_and_by_call(app):
    assert app.login.call_local("ada", app.token) == SECRET.encode()
    app.huey.immediate = True
    assert app.login("ada", app.token).get() == SECRET.encode()


def test_task_where_its_name_is_wanted_is_named(app):
    with pytest.raises(TypeError, match=f"got TaskWrapper: pass '{__name__}.login'"):
        bp.seal(SECRET, task=app.login, argument="password")


def test_setup_is_for_a_huey(app):
    setup(app.huey, {"warm": {}})  # again: changes nothing
    with pytest.raises(TypeError, match="setup needs a Huey instance, not str"):
        setup("huey")
    setup(MemoryHuey("second"), {"max_buffer_bytes": "2GiB"})
    with pytest.raises(bp.SettingsError, match=r"'producer' and the Huey 'second' .* differ in"):
        bp.buffer(1)
