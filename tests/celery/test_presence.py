"""A worker tells whether it was set up; doors that a mistake of configuration comes by."""

import os
import subprocess
import sys

import pytest

import bufpool_workers


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_worker_whose_tasks_use_a_decorator_without_setup_says_so_once(start_worker, pool):
    worker = start_worker("unset_app:app", arguments=[f"--pool={pool}", "--concurrency=2"])
    assert worker.run("unset_app.fill") == 4096
    (line,) = [line for line in worker.log().splitlines() if "bufpool_workers.setup" in line]
    assert "ERROR" in line
    assert "was not called with the app 'unset_app', whose tasks use it (unset_app.fill): " in line
    assert "call bufpool_workers.setup(app) where the app is made" in line


def test_doctor_names_the_tasks_that_need_setup(start_worker):
    worker = start_worker("unset_app:app", arguments=["--concurrency=1"])
    done = worker.command("bufpool", "doctor")
    assert done.returncode == 2
    assert "setup: bufpool_workers.setup was not called" in done.stdout
    assert "(unset_app.fill)" in done.stdout


def test_worker_that_was_set_up_does_not(start_worker):
    worker = start_worker("plugin_app:app", arguments=["--concurrency=1"])
    assert "bufpool_workers.setup" not in worker.log()


def test_report_and_inspect_conf_show_that_the_plugin_is_on(start_worker):
    worker = start_worker("plugin_app:app", arguments=["--concurrency=1"])
    shown = f"set up, version {bufpool_workers.__version__}"
    assert worker.inspect("conf")["bufpool_workers"] == shown
    report = worker.command("report").stdout
    assert "bufpool_workers: " in report
    assert shown in report
    assert worker.run("pool_tasks.borrow", 64, 1)["regular"]["gets"] == 1  # it is no setting


def test_report_of_an_app_without_setup_shows_nothing(start_worker):
    worker = start_worker("unset_app:app", arguments=["--concurrency=1"])
    assert "bufpool_workers: " not in worker.command("report").stdout


DOORS = {
    "serve of a directory": ("-m", "bufpool_workers", "serve", "{}", "--port=0"),
    "status of a directory": ("-m", "bufpool_workers", "status", "{}"),
    "worker": ("-m", "celery", "-A", "plugin_app", "worker"),
    "status of an app": ("-m", "celery", "-A", "plugin_app", "bufpool", "status"),
    "serve of an app": ("-m", "celery", "-A", "plugin_app", "bufpool", "serve", "--port=0"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["file", "missing"])
def test_a_metrics_directory_that_is_none_is_one_line_by_every_door(
    tmp_path, request, redis_server, door, kind
):
    path = tmp_path / "prom"
    if kind == "file":
        path.touch()
    env = {
        **os.environ,
        "CELERY_BROKER_URL": redis_server.celery_url(),
        "PROMETHEUS_MULTIPROC_DIR": str(path),
        "TEST_WORKER_SETTINGS": "{}",
    }
    done = subprocess.run(
        [sys.executable, *(part.format(path) for part in DOORS[door])],
        cwd=request.path.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode not in (0, -6, -11)
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Usage")]
    assert line.startswith("Error: ")
    assert str(path) in line
