"""What the alerts send people to is in a worker's log, with default settings."""

import inspect
import re
import signal
import sys

import pytest

from bufpool_workers.diagnostics.problems import CONDITIONS
from tests.celery import misused_tasks
from tests.support.lock_limit import WITH_LOCK_LIMIT
from tests.support.waiting import wait_until

ESCAPES = ("escapes", "decorated_escapes")
RECLAIMS = ("reclaims", "held_reclaims")


def start(start_worker, *, pool="prefork", **options):
    return start_worker(
        "misused_app:app", arguments=[f"--pool={pool}", "--concurrency=1"], **options
    )


def lines(worker, field):
    return [line for line in worker.log().splitlines() if f" bufpool: {field}: " in line]


def place_in(task):
    """Return the place of a function in its file, as a pattern: any of its lines."""
    source, first = inspect.getsourcelines(inspect.unwrap(getattr(misused_tasks, task).run))
    numbers = "|".join(str(first + n) for n in range(len(source)))
    return rf"{re.escape(misused_tasks.__file__)}:({numbers}),"


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize(
    ("field", "tasks"),
    [("escapes", ESCAPES), ("reclaims", RECLAIMS), ("damages", ["damages"])],
)
def test_each_misuse_leaves_one_warning_with_task_count_and_place(start_worker, pool, field, tasks):
    worker = start(start_worker, pool=pool)
    for task in (*tasks, *tasks):
        worker.run(f"misused_tasks.{task}")
    wait_until(lambda: len(lines(worker, field)) >= len(tasks), what="the lines")
    assert worker.stop(signal.SIGTERM) == 0
    found = lines(worker, field)
    assert len(found) == len(tasks), worker.log()
    for task, line in zip(tasks, found, strict=True):
        assert "WARNING" in line
        assert f" pool): 1 in task misused_tasks.{task}, at " in line
        assert re.search(place_in(task), line), line
    assert "ResourceWarning" not in worker.log()


def test_unlocked_buffers_leave_one_warning(start_worker):
    prefix = [sys.executable, "-c", WITH_LOCK_LIMIT, "0"]
    worker = start(start_worker, prefix=prefix)
    for _ in range(2):
        worker.run("misused_tasks.unlocked")
    (line,) = lines(worker, "unlocked")
    assert "WARNING" in line
    assert "(secure pool): 1 in task misused_tasks.unlocked, at " in line
    assert re.search(place_in("unlocked"), line), line


def test_log_has_what_each_alert_sends_people_to_it_for(start_worker):
    """Reads the texts of all alerts: what they quote of the log is written by real workers."""
    quoted = {
        words
        for condition in CONDITIONS
        if "log " in condition.advice
        for words in re.findall("`([^`]+)`", condition.advice.partition("log ")[2])
    }
    assert {words for words in quoted if words.startswith("bufpool: ")} == {
        f"bufpool: {field}" for field in ("escapes", "reclaims", "damages", "unlocked")
    }
    worker = start(start_worker, prefix=[sys.executable, "-c", WITH_LOCK_LIMIT, "0"])
    for task in ("escapes", "reclaims", "damages", "unlocked"):
        worker.run(f"misused_tasks.{task}")
    slow = start(start_worker, settings={"bufpool_warm_seconds": 0})
    broken = start_worker(
        "plugin_app:app",
        arguments=["--concurrency=1"],
        settings={"bufpool_warm": {"regular": {"16MiB": 7}}},
        env={"TEST_ADDRESS_SPACE_LEFT": str(64 * 1024 * 1024)},
    )
    broken.run("pool_tasks.numbers")
    slow.run("misused_tasks.escapes")
    logged = worker.log() + slow.log() + broken.log()
    assert {words for words in quoted if words not in logged} == set()
