"""Places besides messages that keep a call's arguments: the file of beat, and stored results."""

import json
import signal
import sys

import pytest
from celery import Celery

import bufpool_workers as bp
from tests.support.celery_worker import connected
from tests.support.processes import LocalProcess

SECRET = "correct horse battery staple"  # noqa: S105 (no password)


@pytest.fixture
def broker(redis_server):
    return redis_server.celery_url()


@pytest.fixture
def beat(broker, tmp_path, request):
    """Run `celery ARGUMENTS` with one entry in the schedule, its file in tmp_path."""

    def run(password, *arguments, **env):
        entry = {"task": "beat_app.login", "schedule": 0.1, "args": ["ada", password]}
        env |= {
            "TEST_WORKER_SETTINGS": json.dumps({"beat_schedule": {"hourly": entry}}),
            "CELERY_BROKER_URL": broker,
        }
        command = [sys.executable, "-m", "celery", "-A", "beat_app", *arguments]
        command += ["-s", str(tmp_path / "schedule"), "--loglevel=INFO"]
        return LocalProcess(command, log=tmp_path / "log", cwd=request.path.parent, env=env)

    return run


def kept(folder):
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("env", [{}, {"TEST_FINALIZE": "1"}], ids=["", "finalized"])
@pytest.mark.parametrize("command", [["beat"], ["worker", "-B", "--pool=solo"]], ids=" ".join)
def test_beat_does_not_start_with_a_plain_secret(beat, tmp_path, command, env):
    with beat(SECRET, *command, **env) as process:
        assert process.wait(timeout_seconds=60) != 0
        assert "beat_app.login, argument 'password': expected a token" in process.log()
    if not env or command != ["beat"]:
        assert SECRET.encode() not in kept(tmp_path)
    assert "Traceback" not in process.log()


def test_beat_starts_with_a_token(beat, broker, tmp_path):
    token = bp.seal(
        SECRET,
        task="beat_app.login",
        argument="password",
        public_key=bp.generate_key(tmp_path / "key"),
    )
    with (
        beat(token, "beat") as process,
        connected(broker) as client,
    ):
        sent = client.backend.client
        process.wait_until(lambda: sent.llen("celery"), what="the scheduled task")
        process.send_signal(signal.SIGTERM)  # not all kinds of dbm write the file before its end
        assert process.wait() == 0
    assert token.encode() in kept(tmp_path)


def test_a_plain_argument_of_an_eager_call_is_not_stored():
    app = Celery("eager", broker="memory://kept", backend="cache+memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_store_eager_result=True, result_extended=True)
    bp.setup(app)

    @app.task(name="eager.login", shared=False)
    @bp.sealed("password")
    def login(user, password):
        return user, len(password)

    for result in (login.delay("ada", SECRET), login.delay("ada", password=SECRET)):
        stored = app.backend.get(app.backend.get_key_for_task(result.id))
        assert "NotSealed" in stored
        assert SECRET not in stored
