"""A worker, its app's report and doctor tell whether the app was set up."""

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
