"""The helpers for users' tests."""

import os
import warnings
from pathlib import Path

import pytest
from celery import Celery

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import current_runtime
from tests.support.forked import run_forked

pytest_plugins = ["bufpool_workers.pytest_plugin"]

SECRET = b"correct horse"


@bp.sealed("password")
def login(user, password, note=None):
    return user, bytes(password), password.kind, note


@bp.sealed("password")
async def login_later(password):
    return bytes(password)


@pytest.fixture
def task():
    testing.reset()
    app = Celery("shop", broker="memory://", set_as_current=False)
    bp.setup(app)
    yield app.task(name="tested.login", shared=False)(login)
    testing.reset()


@pytest.mark.parametrize(
    "plain", [SECRET, SECRET.decode(), bytearray(SECRET), memoryview(SECRET)], ids=type
)
def test_body_gets_plain_values_as_secure_buffers(plain, no_leaked_buffers):
    with testing.plain_values():
        assert login("ada", plain, note="n") == ("ada", SECRET, "secure", "n")
        assert login(user="ada", password=plain) == ("ada", SECRET, "secure", None)


def test_plain_values_are_refused_outside(task):
    with testing.plain_values():
        assert task("ada", "")[1] == b""
    with pytest.raises(bp.NotSealed):
        task("ada", SECRET)
    with pytest.raises(TypeError, match="call the task itself"):
        login("ada", SECRET)


def test_a_reset_process_leaves_no_directory_to_its_children(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    testing.reset()
    current_runtime().node.join(private=True)
    assert Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).is_dir()
    testing.reset()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    assert current_runtime().node.metrics_directory is None


def test_a_reset_process_keeps_the_directory_of_its_deployment(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    testing.reset()
    current_runtime().node.join(private=True)
    testing.reset()
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path)


@pytest.mark.parametrize("value", [None, 7, ["x"]])
def test_what_is_no_secret_stays_refused(task, value):
    with testing.plain_values(), pytest.raises(bp.NotSealed):
        task("ada", value)


def test_tokens_open_among_plain_values(task, bufpool_keys):
    token = testing.seal_for_test(SECRET, task=task, argument="password")
    with testing.plain_values():
        assert task("ada", token)[1] == SECRET
        with pytest.raises(bp.DamagedToken):
            task("ada", "bps1.x")


def test_nothing_plain_is_published(task, bufpool_keys):
    with testing.plain_values(), pytest.raises(bp.NotSealed):
        task.delay("ada", SECRET.decode())


def test_coroutines_take_plain_values(no_leaked_buffers):
    coroutine = None
    with testing.plain_values():
        coroutine = login_later(SECRET)
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
    assert done.value.value == SECRET


def test_keys_in_memory_stand_in_for_those_of_the_settings(task, tmp_path):
    with testing.keys_in_memory() as public_key:
        assert bp.seal(SECRET, task=task, argument="password")
        token = bp.seal(SECRET, task="tested.login", argument="password", public_key=public_key)
        assert task("ada", token)[1] == SECRET
        with testing.keys_in_memory(), pytest.raises(bp.UnknownKey):
            task("ada", token)
        assert task("ada", token)[1] == SECRET
        run_forked(lambda: task("ada", token)[1] == SECRET or 1 / 0)
    with pytest.raises(bp.UnknownKey):
        task("ada", token)
    with pytest.raises(RuntimeError, match="keys_in_memory"):
        testing.seal_for_test(SECRET, task=task, argument="password")
    assert current_runtime().keys.of_test is None


def leak(how, kept):
    buffer = bp.buffer(100)
    if how == "held":
        kept.append(buffer)
    elif how == "viewed":
        with buffer:
            kept.append(memoryview(buffer))


@pytest.mark.parametrize("how", ["held", "dropped", "viewed"])
def test_leaks_fail(how):
    kept = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(AssertionError, match="1 regular"), testing.no_leaked_buffers():
            leak(how, kept)
        kept.clear()


def test_nothing_left_passes():
    with testing.no_leaked_buffers(), bp.buffer(100), bp.secure_buffer(10):
        pass
