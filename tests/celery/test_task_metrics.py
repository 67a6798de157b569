"""The numbers of each task, of a worker whose children are recycled and killed."""

import json
import random
import urllib.request
from collections import defaultdict

import pytest
from celery.exceptions import WorkerLostError

from tests.support.scrape import scrape, total, value


def ask(worker, path):
    with urllib.request.urlopen(
        f"http://127.0.0.1:{worker.wait_for_port()}/{path}", timeout=30
    ) as answer:
        return answer.read().decode()


def noted(path):
    """Add up what the tasks noted."""
    tasks = defaultdict(lambda: {"gets": 0, "peak_bytes": 0})
    for line in path.read_text().splitlines():
        note = json.loads(line)
        numbers = tasks[note["task"]]
        numbers["gets"] += note["gets"]
        numbers["peak_bytes"] = max(numbers["peak_bytes"], note["peak_bytes"])
    return dict(tasks)


def told(worker):
    tasks = json.loads(ask(worker, "status.json"))["tasks"]
    assert all(its["escapes"] == its["reclaims"] == 0 for its in tasks.values())
    return {
        task: {name: its[name] for name in ("gets", "peak_bytes")} for task, its in tasks.items()
    }


@pytest.mark.timeout(300)
def test_totals_are_what_tasks_noted_though_children_are_killed_and_recycled(
    start_worker, tmp_path
):
    worker = start_worker(
        "counted_app:app",
        arguments=["--concurrency=2", "--max-tasks-per-child=3"],
        settings={"bufpool_metrics_port": 0, "bufpool_task_metrics": True},
    )
    notes = tmp_path / "notes"
    choose = random.Random(18)
    sent = []
    for number in range(24):
        sizes = [choose.randint(1, 100_000) for _ in range(choose.randint(1, 5))]
        name = "die" if number % 6 == 5 else choose.choice(("resize", "mail"))
        pending = worker.send(f"counted_tasks.{name}", sizes, str(notes))
        sent.append((name, pending))
        if number % 6 == 5:  # the pool loses no task that a neighbour had begun
            for done, each in sent:
                if done == "die":
                    with pytest.raises(WorkerLostError):
                        worker.result(each)
                else:
                    worker.result(each)
            assert told(worker) == noted(notes)
            sent.clear()
    expected = noted(notes)
    samples = scrape(worker)
    assert total(samples, "bufpool_task_gets_total") == sum(n["gets"] for n in expected.values())
    for task, numbers in expected.items():
        assert value(samples, "bufpool_task_peak_bytes", task=task) == numbers["peak_bytes"]
        assert task in ask(worker, "")
    done = worker.command("bufpool", "status")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0]: row[1] for row in rows if row and row[0] in expected} == {
        task: str(numbers["gets"]) for task, numbers in expected.items()
    }
