"""The metrics directory is chosen once: whatever moves later, one scrape has all numbers."""

import pytest

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
    assert f"metrics directory '{tmp_path}/file': it is not a directory" in worker.log()
