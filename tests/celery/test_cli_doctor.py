"""`celery bufpool doctor` beside a running worker, and what becomes of its advice."""

import json
import os

from bufpool_workers import MiB

NAMED = {"TEST_APP_NAME": f"doctor-{os.getpid()}"}
FEW = {"regular": {"1MiB": 1}, "secure": {}, "random": {}}


def start(start_worker, warm, **settings):
    return start_worker(
        "named_app:app",
        arguments=["--concurrency=1"],
        settings={"bufpool_warm": warm, **settings},
        env=NAMED,
    )


def use(worker):
    for _ in range(20):
        worker.run("pool_tasks.borrow", MiB, 6)
    worker.run("pool_tasks.borrow_often", MiB, 1000)


def examine(worker):
    done = worker.command("bufpool", "doctor", "--json")
    assert done.stderr == ""
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


def test_the_suggested_warm_levels_end_the_misses(start_worker):
    worker = start(start_worker, FEW)
    use(worker)
    status, found = examine(worker)
    assert status == 1
    assert found["limits"]["what"].endswith(f"{worker.node}, process {worker.pid}")
    assert found["warm"]["level"] == "ok"
    advice = found["sizing_regular"]
    assert advice["level"] == "warning"
    assert "more of 1MiB are needed" in advice["what"]
    worker.close()
    name, _, levels = advice["paste"].partition(" = ")
    assert name == "app.conf.bufpool_warm"
    wiser = start(start_worker, FEW | json.loads(levels))
    use(wiser)
    _, found = examine(wiser)
    assert found["sizing_regular"]["level"] == "ok"
    assert found["sizing_regular"]["what"].startswith("regular: 100.00 %")


def test_its_lines_can_be_read_and_searched(start_worker):
    worker = start(start_worker, FEW, bufpool_metrics_namespace="shop")
    worker.run("pool_tasks.keep_buffer", 4096)
    done = worker.command("bufpool", "doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("warning  reclaims: ")]
    assert line.endswith("when their task ended: 1")
    assert lines[lines.index(line) + 1].startswith("         -> use `with`")
    assert not any(line.startswith("ok ") for line in lines)
    everything = worker.command("bufpool", "doctor", "--all")
    assert f"\nok       warm: {worker.node}: all 1 processes are warm" in everything.stdout


def test_without_a_worker_it_looks_at_host_and_app(start_worker, tmp_path):
    worker = start(start_worker, FEW)
    worker.close()
    gone = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "gone")}
    done = worker.command("bufpool", "doctor", env=gone)
    assert done.returncode == 2
    assert f"error    metrics_directory: {tmp_path / 'gone'}: it does not exist" in done.stdout
    assert "note     nodes: no numbers of a worker to look at" in done.stdout
    wrong = {"TEST_WORKER_SETTINGS": json.dumps({"bufpool_wram": {}})}
    done = worker.command("bufpool", "doctor", env=wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bufpool_wram: there is no such setting, did you mean bufpool_warm?" in done.stderr


def test_a_broker_that_is_away_is_a_warning(start_worker):
    worker = start(start_worker, FEW)
    worker.close()
    away = {"CELERY_BROKER_URL": "redis://:hunter2@127.0.0.1:1/0", "TEST_APP_NAME": "nobody"}
    done = worker.command("bufpool", "doctor", "--json", env=away)
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert (found["broker"]["level"], done.returncode > 0) == ("warning", True)
    assert found["broker"]["what"].startswith("broker redis://:**@127.0.0.1:1/0: ")
    assert found["broker"]["to_do"]
