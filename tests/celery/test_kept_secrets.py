"""Places besides messages that keep a call's arguments: the file of beat, and stored results."""

import json
import sys

import pytest
from celery import Celery

import bufpool_workers as bp
from tests.support.processes import LocalProcess

SECRET = "correct horse battery staple"  # noqa: S105 (no password)


@pytest.fixture
def beat(redis_server, tmp_path, request):
    """Run `celery ARGUMENTS` with one entry in the schedule, its file in tmp_path."""
    broker = redis_server.celery_url()

    def run(password, *arguments, **env):
        entry = {"task": "beat_app.login", "schedule": 3600.0, "args": ["ada", password]}
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


def test_beat_starts_with_a_token(beat, tmp_path):
    token = bp.seal(
        SECRET,
        task="beat_app.login",
        argument="password",
        public_key=bp.generate_key(tmp_path / "key"),
    )
    with beat(token, "beat") as process:
        process.wait_until(lambda: token.encode() in kept(tmp_path), what="the schedule's file")


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
