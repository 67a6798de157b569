"""A worker's start and end: bad settings, tight limits, a failed warm-up, the last words."""

import re
import signal
import sys

import pytest

from bufpool_workers import MiB
from bufpool_workers.diagnostics.limits import machine_bytes
from bufpool_workers.units import GiB, format_bytes
from tests.support.lock_limit import WITH_LOCK_LIMIT
from tests.support.scrape import scrape, value

CAPS = 128 * MiB + 4 * MiB + 4 * MiB
LOCKED = 8 * MiB


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_bad_settings_end_the_worker_with_all_errors_at_once(start_worker, pool):
    worker = start_worker(
        "plugin_app:app",
        ready=False,
        arguments=[f"--pool={pool}", "--concurrency=1"],
        settings={
            "bufpool_max_buffer_bytes": "1 parsec",
            "bufpool_at_limit": "explode",
            "bufpool_warm_seconds": 60,
            "bufpool_wram": {},
        },
    )
    assert worker.wait() not in (0, -signal.SIGKILL)
    log = worker.log()
    assert "Traceback" not in log
    assert "Error: bufpool_max_buffer_bytes = '1 parsec'" in log
    assert "\n  bufpool_at_limit = 'explode': one of lend, raise" in log
    assert "\n  bufpool_warm_seconds = 60: outside 0 to 3.5" in log
    assert "\n  bufpool_wram: there is no such setting, did you mean bufpool_warm?" in log
    assert " ready." not in log
    assert worker.members() == []


def test_coroutine_below_our_decorator_ends_the_worker(start_worker):
    worker = start_worker(
        "plugin_app:app",
        ready=False,
        arguments=["--concurrency=1"],
        settings={"include": ["coroutine_tasks"]},
    )
    assert worker.wait() not in (0, -signal.SIGKILL)
    log = worker.log()
    assert "Traceback" not in log
    assert (
        "task coroutine_tasks.fetch is a coroutine function, which Celery does not await: its "
        "body never runs; make it a plain function"
    ) in log


def test_caps_above_max_memory_per_child_are_warned_of_with_both_numbers(start_worker):
    worker = start_worker(
        "plugin_app:app", arguments=["--concurrency=1", "--max-memory-per-child=20000"]
    )
    (line,) = warnings_in(worker.log(), "worker_max_memory_per_child")
    assert format_bytes(CAPS) in line
    assert format_bytes(20000 * 1024) in line
    assert worker.run("pool_tasks.numbers")["total"]["in_use"] == 0


def test_caps_above_the_lock_limit_are_warned_of_with_both_numbers(start_worker):
    worker = start_worker(
        "plugin_app:app",
        arguments=["--concurrency=1"],
        prefix=[sys.executable, "-c", WITH_LOCK_LIMIT, str(64 * 1024)],
    )
    (line,) = warnings_in(worker.log(), "RLIMIT_MEMLOCK")
    assert format_bytes(LOCKED) in line
    assert format_bytes(64 * 1024) in line
    assert worker.run("pool_tasks.numbers")["total"]["in_use"] == 0


def test_warm_up_budget_above_celery_s_patience_is_warned_of_with_both_numbers(start_worker):
    worker = start_worker(
        "plugin_app:app",
        arguments=["--concurrency=1"],
        settings={"worker_proc_alive_timeout": 1.5},
    )
    (line,) = warnings_in(worker.log(), "worker_proc_alive_timeout")
    assert "bufpool_warm_seconds, 2 s" in line
    assert "1.5 s" in line


def test_caps_within_the_limits_are_not_warned_of(start_worker):
    worker = start_worker(
        "plugin_app:app",
        arguments=["--concurrency=1", "--max-memory-per-child=2000000"],
        prefix=[sys.executable, "-c", WITH_LOCK_LIMIT, str(LOCKED)],
    )
    assert worker.run("pool_tasks.numbers")["secure"]["idle"] > 0
    assert warnings_in(worker.log(), "bufpool") == []


@pytest.mark.parametrize(("pool", "processes"), [("prefork", 3), ("threads", 1)])
def test_warm_levels_above_the_machine_s_memory_end_the_start_with_both_numbers(
    start_worker, pool, processes
):
    count = machine_bytes() // GiB + 1
    worker = start_worker(
        "plugin_app:app",
        ready=False,
        arguments=[f"--pool={pool}", "--concurrency=3"],
        settings={
            "bufpool_size_classes": ["4KiB", "1GiB"],
            "bufpool_max_bytes": {"regular": count * GiB},
            "bufpool_warm": {"regular": {"1GiB": count}, "secure": {}, "random": {}},
        },
    )
    assert worker.wait() not in (0, -signal.SIGKILL)
    (line,) = [line for line in worker.log().splitlines() if line.startswith("Error: ")]
    assert f"bufpool_warm takes {format_bytes(processes * count * GiB)} in {processes} " in line
    assert format_bytes(machine_bytes()) in line or "the cgroup allows" in line
    assert "lower bufpool_warm" in line
    assert "Traceback" not in worker.log()


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_worker_whose_warm_up_fails_says_so_and_serves(start_worker, pool):
    # far more is left than the worker's threads reserve (72 MiB each for a stack and a malloc
    # arena); the warm-up maps all of a class at once, so it leaves that as it was
    worker = start_worker(
        "plugin_app:app",
        arguments=[f"--pool={pool}", "--concurrency=1"],
        settings={
            "bufpool_warm": {"regular": {"16MiB": 256}},
            "bufpool_max_bytes": {"regular": "4GiB"},
            "bufpool_metrics_port": 0,
        },
        env={"TEST_ADDRESS_SPACE_LEFT": str(2048 * MiB)},
    )
    found = worker.run("pool_tasks.borrow", 4096, 2)["regular"]
    assert found["gets"] == found["hits"] + found["misses"] == found["in_use"] == 2
    assert found["misses"] > 0
    worker.wait_for_log("bufpool: warm-up failed; .*: regular pool: the system refused")
    assert "Traceback" not in worker.log()
    found = scrape(worker)
    assert value(found, "bufpool_processes") == 1
    assert value(found, "bufpool_warmed_processes") == 0


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent"])
def test_warm_shutdown_tells_the_totals_once(start_worker, pool):
    worker = start_worker("plugin_app:app", arguments=[f"--pool={pool}", "--concurrency=1"])
    worker.run("pool_tasks.borrow", 4096, 3)
    assert worker.stop(signal.SIGTERM) == 0
    assert totals_in(worker.log()) == ["3 gets, hit rate 100 %, 0 escapes, 0 reclaims"]


def test_totals_of_no_gets_have_no_hit_rate(start_worker):
    worker = start_worker("plugin_app:app", arguments=["--pool=solo"])
    assert worker.stop(signal.SIGTERM) == 0
    assert totals_in(worker.log()) == ["0 gets, hit rate -, 0 escapes, 0 reclaims"]


def totals_in(log):
    return re.findall(r"bufpool: (\d+ gets, .*)", log)


def warnings_in(log, word):
    return [line for line in log.splitlines() if "WARNING" in line and word in line]
