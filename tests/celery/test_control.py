"""Commands that a node answers over the broker, as `celery inspect` and `celery control` send."""

import json

import pytest

from bufpool_workers import MiB
from bufpool_workers.celery import control
from bufpool_workers.counters.report import Report
from tests.support.waiting import wait_until

SETTINGS = {"bufpool_warm": {"regular": {"1MiB": 2}, "secure": {}, "random": {}}}


def start(start_worker, pool="prefork", **options):
    arguments = [f"--pool={pool}", "--concurrency=1"]
    return start_worker("plugin_app:app", arguments=arguments, settings=SETTINGS, **options)


def ask(worker, command):
    (answer,) = worker.client.control.broadcast(
        command, destination=[worker.node], reply=True, limit=1, timeout=10
    )
    return answer[worker.node]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_pools_are_trimmed_when_their_next_task_ends(start_worker, pool):
    worker = start(start_worker, pool)
    worker.run("pool_tasks.borrow", MiB, 5)
    assert worker.run("pool_tasks.numbers")["regular"]["idle"] == 5
    told = ask(worker, "bufpool_trim")
    assert told == {"ok": "asked 1 processes to trim their pools when their next task ends"}
    worker.run("pool_tasks.numbers")
    wait_until(
        lambda: worker.run("pool_tasks.numbers")["regular"]["idle"] == 2, what="the warm level"
    )
    (found,) = worker.wait_for_log(r"bufpool: (.+) of idle memory given back, as asked")
    assert found[1] == "3 MiB"


def test_a_node_tells_its_numbers_to_celery_inspect(start_worker):
    worker = start(start_worker)
    worker.run("pool_tasks.borrow", MiB, 3)
    done = worker.command("inspect", "bufpool_stats", "--json")
    assert done.returncode == 0, done.stderr
    report = Report.from_dict(json.loads(done.stdout)[worker.node])
    assert report.pools["regular"].sizes["1mb"].gets == 3
    assert report.pools["regular"].sizes["1mb"].misses == 1
    assert [process.warmed for process in report.processes] == [True]
    listed = worker.command("control", "--list")
    assert "bufpool_trim" in listed.stdout


@pytest.mark.parametrize("command", [control.bufpool_stats, control.bufpool_trim])
def test_a_node_that_counts_nowhere_says_what_to_do(command, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert "start it with `celery worker`, or set PROMETHEUS" in command(None)["error"]
