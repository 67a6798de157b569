"""The doctor's checks of an app."""

import functools
import logging
import os
import re

import pytest
from celery import Celery, current_app

import bufpool_workers as bp
from bufpool_workers import MiB, Settings
from bufpool_workers.celery import app_checks as checks
from bufpool_workers.diagnostics.capacity import check_memory
from bufpool_workers.diagnostics.limits import Process

HERE = Process(pid=os.getpid())


@pytest.fixture
def app(monkeypatch):
    current_app.finalize()  # this process's own keeps them, whichever test asks it for a task first
    # without the shared tasks of other tests' modules, which every app of a process gets
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    app = Celery("looked_at", set_as_current=False)
    bp.setup(app)
    return app


def found(app, settings=None, process=HERE):
    findings = checks.check_app(app, settings or Settings(), process=process)
    return {finding.check: finding for finding in findings}


def login(user, password):
    return bool(password)


def test_an_app_without_setup_is_an_error():
    findings = found(Celery("other", set_as_current=False))
    assert {check: finding.severity for check, finding in findings.items()} == {"setup": "error"}


def test_tasks_that_need_setup_are_named():
    app = Celery("other", set_as_current=False)
    app.task(bp.sealed("password")(login), name="login", shared=False)
    finding = found(app)["setup"]
    # tasks that other tests share among all apps may stand beside it
    assert re.search(r"whose tasks use it \((.+, )?login\b.*\): its workers pool", finding.message)


def test_a_plain_app_is_fine(app):
    assert {finding.severity for finding in found(app).values()} == {"ok"}


def test_coroutine_below_our_decorator_is_an_error(app):
    @app.task(name="fetch")
    @bp.pooled_buffer(1)
    async def fetch(*, buf):
        raise AssertionError

    finding = found(app)["coroutines"]
    assert finding.severity == "error"
    assert finding.message.startswith("task fetch is a coroutine function, which Celery")


def test_import_error_of_task_modules_is_reported(app, monkeypatch, tmp_path):
    (tmp_path / "wrong_order.py").write_text(
        "import bufpool_workers as bp\n"
        "from celery import shared_task\n"
        "@bp.pooled_buffer(64)\n"
        "@shared_task\n"
        "def task(*, buf): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app.conf.include = ["wrong_order"]
    finding = found(app)["tasks"]
    assert finding.severity == "error"
    assert "pooled_buffer stands below @app.task" in finding.message


def test_decorator_that_hides_sealed_is_an_error(app):
    def hides(function):
        def call(*args, **kwargs):
            return function(*args, **kwargs)

        return call

    app.task(hides(bp.sealed("password")(login)), name="hidden", shared=False)
    finding = found(app)["decorators"]
    assert finding.severity == "error"
    assert finding.message.startswith("task hidden: a decorator above @sealed hides that password")


def test_decorators_that_wrap_are_fine(app):
    def wraps(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            return function(*args, **kwargs)

        return call

    app.task(wraps(bp.sealed("password")(wraps(login))), name="login", shared=False)
    assert "decorators" not in found(app, Settings(private_keys=("key",)))


def test_sealed_arguments_without_a_key_are_an_error(app, tmp_path):
    app.task(bp.sealed("password")(login), name="login", shared=False)
    assert found(app)["keys"].severity == "error"
    path = tmp_path / "worker.key"
    bp.generate_key(path)
    assert found(app, Settings(private_keys=(str(path),)))["keys"].severity == "ok"
    path.chmod(0o644)
    finding = found(app, Settings(private_keys=(str(path),)))["keys"]
    assert finding.severity == "error"
    assert str(path) in finding.message


def test_invalid_public_key_is_an_error(app, tmp_path):
    path = tmp_path / "worker.pub"
    path.write_text("")  # as a redirection leaves it, when the command fails
    finding = found(app, Settings(public_key=str(path)))["public_key"]
    assert finding.severity == "error"
    assert str(path) in finding.message
    path.write_text(bp.generate_key(tmp_path / "worker.key"))
    assert found(app, Settings(public_key=str(path)))["public_key"].severity == "ok"


def test_settings_that_show_tokens_are_warned_of(app, monkeypatch):
    app.task(bp.sealed("password")(login), name="login", shared=False)
    debug = Process(pid=1, arguments=("celery", "worker", "-l", "debug"))
    assert not {"result_extended", "logging"} & found(app).keys()
    app.conf.result_extended = True
    assert found(app)["result_extended"].severity == "warning"
    assert found(app, process=debug)["logging"].severity == "warning"
    logger = logging.getLogger("celery")
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    assert found(app)["logging"].severity == "warning"


def test_settings_that_show_tokens_are_fine_without_sealed_tasks(app):
    app.task(login, name="login", shared=False)
    app.conf.result_extended = True
    assert not {"result_extended", "logging", "keys"} & found(app).keys()


@pytest.mark.parametrize(
    ("limit", "level"), [(None, "ok"), (300 * MiB, "ok"), (200 * MiB, "warning"), (MiB, "error")]
)
def test_pools_are_compared_with_cgroup_memory(limit, level):
    assert check_memory(Settings(), processes=2, limit=limit).severity == level


@pytest.mark.parametrize(
    ("limit", "machine", "words"),
    [
        (None, 200 * MiB, "this machine has 200 MiB"),
        (300 * MiB, 200 * MiB, "this machine has 200 MiB"),
        (100 * MiB, 200 * MiB, "the cgroup allows 100 MiB"),
    ],
)
def test_lower_bound_of_memory_is_named(limit, machine, words):
    finding = check_memory(Settings(), processes=2, limit=limit, machine=machine)
    assert words in finding.message


def test_children_that_would_be_recycled_are_warned_of(app):
    app.conf.worker_max_memory_per_child = 100_000
    assert found(app)["recycling"].severity == "warning"
    app.conf.worker_proc_alive_timeout = 1.0
    assert found(app)["warm_seconds"].severity == "warning"
