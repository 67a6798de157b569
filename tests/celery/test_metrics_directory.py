"""The metrics directory is chosen once: whatever moves later, one scrape has all numbers."""

import json
import sys

import pytest

from tests.support.processes import LocalProcess
from tests.support.scrape import scrape, value
from tests.support.waiting import wait_until

SIZE = {"pool": "regular", "size": "4kb"}


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_a_relative_directory_is_kept_when_tasks_move(start_worker, tmp_path, variable):
    folder = tmp_path / "worker"
    (folder / "prom").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    worker = start_worker(
        "plugin_app:app",
        arguments=["--concurrency=2", "--include=moving_tasks", "--max-tasks-per-child=2"],
        settings={"bufpool_metrics_port": 0},
        env={variable: str((folder / "prom").relative_to(folder))},
        prefix=["sh", "-c", f'export PYTHONPATH=$PWD; cd {folder}; exec "$@"', "sh"],
    )
    for _ in range(4):
        worker.run("moving_tasks.move", str(tmp_path / "elsewhere"))
        worker.run("moving_tasks.work")
    assert value(scrape(worker), "bufpool_gets_total", **SIZE) == 8
    wait_until(  # those that replace the others may still be starting
        lambda: value(scrape(worker), "bufpool_processes") == 2, what="two processes that count"
    )
    assert list((folder / "prom").glob("*.db"))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not list(folder.glob("*.db"))


def test_a_file_in_the_directorys_place_is_named_in_one_line(start_worker, tmp_path):
    (tmp_path / "file").touch()
    worker = start_worker(
        "plugin_app:app", ready=False, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file")}
    )
    assert worker.wait() != 0
    line = (
        f"Error: metrics directory '{tmp_path}/file': it is not a directory; create one, or leave "
    )
    assert worker.log().startswith(line)
    assert len(worker.log().splitlines()) == 1


def test_a_worker_started_from_python_refuses_two_directories(tmp_path, request, redis_server):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    env = {
        "CELERY_BROKER_URL": redis_server.celery_url(),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "one"),
        "TEST_WORKER_SETTINGS": json.dumps({"bufpool_metrics_dir": str(tmp_path / "two")}),
    }
    code = "from plugin_app import app; app.worker_main(['worker', '--pool=solo'])"
    command = [sys.executable, "-c", code]
    with LocalProcess(command, log=tmp_path / "log", cwd=request.path.parent, env=env) as worker:
        assert worker.wait(timeout_seconds=60) != 0
    assert f"bufpool_metrics_dir is '{tmp_path}/two', but PROMETHEUS_MULTIPROC_DIR" in worker.log()
