"""Warm-up in real workers: before the first task, in every pool implementation, after recycling."""

import celery
import pytest

from bufpool_workers import KiB, MiB
from bufpool_workers.units import format_bytes
from tests.celery.pool_tasks import borrow, numbers
from tests.support.celery_worker import run
from tests.support.waiting import wait_until

WARM = {
    "regular": {"64KiB": 3, "1MiB": 2},
    "secure": {"4KiB": 2},
    "random": {"2KiB": 2},
}
WARM_BYTES = {"regular": 3 * 64 * KiB + 2 * MiB, "secure": 8 * KiB, "random": 4 * KiB}
IDLE = {"regular": {"64kb": 3, "1mb": 2}, "secure": {"4kb": 2}, "random": {"2kb": 2}}
WARM_LINE = f"bufpool: 9 buffers, {format_bytes(sum(WARM_BYTES.values()))} warm in"


def assert_untouched_and_warm(found):
    for kind, idle in IDLE.items():
        pool = found[kind]
        assert pool["idle_by_size"] == idle
        assert pool["bytes_allocated"] == pool["held_bytes"] == WARM_BYTES[kind]
        assert pool["gets"] == pool["puts"] == pool["misses"] == pool["bytes_reused"] == 0


def assert_first_task_finds_warm_pools(setup):
    assert_untouched_and_warm(run(numbers))
    assert WARM_LINE in setup.worker.logs()
    held = run(borrow, 64 * KiB, 3)["regular"]
    assert (held["hits"], held["misses"], held["in_use"]) == (3, 0, 3)
    assert held["bytes_allocated"] == WARM_BYTES["regular"]
    assert held["bytes_reused"] == 3 * 64 * KiB


@pytest.mark.worker("--pool=prefork", "--concurrency=1", bufpool_warm=WARM)
def test_prefork_child_is_warm_before_its_first_task(celery_setup):
    assert_first_task_finds_warm_pools(celery_setup)


@pytest.mark.skipif(celery.VERSION < (5, 6), reason="worker_pool_start_method needs Celery 5.6")
@pytest.mark.worker(
    "--pool=prefork", "--concurrency=1", bufpool_warm=WARM, worker_pool_start_method="spawn"
)
def test_spawned_child_is_warm_before_its_first_task(celery_setup):
    assert_first_task_finds_warm_pools(celery_setup)
    assert "SpawnPoolWorker-1" in celery_setup.worker.logs()


@pytest.mark.worker("--pool=solo", bufpool_warm=WARM)
def test_solo_is_warm_before_its_first_task(celery_setup):
    assert_first_task_finds_warm_pools(celery_setup)


@pytest.mark.worker("--pool=threads", "--concurrency=2", bufpool_warm=WARM)
def test_threads_are_warm_before_their_first_task(celery_setup):
    assert_first_task_finds_warm_pools(celery_setup)


@pytest.mark.worker("--pool=gevent", "--concurrency=10", bufpool_warm=WARM)
def test_gevent_is_warm_before_its_first_task(celery_setup):
    assert_first_task_finds_warm_pools(celery_setup)


@pytest.mark.worker("--concurrency=2", bufpool_warm=WARM)
def test_each_prefork_child_warms_itself_once_and_the_parent_never(celery_setup):
    stats = wait_until(celery_setup.app.control.inspect().stats, what="an answer")
    pids = stats[celery_setup.worker.hostname()]["pool"]["processes"]
    celery_setup.worker.wait_for_log(WARM_LINE)
    run(numbers)
    lines = [line for line in celery_setup.worker.logs().splitlines() if WARM_LINE in line]
    assert len(lines) == len(pids) == 2


@pytest.mark.worker("--concurrency=1", "--max-tasks-per-child=1", bufpool_warm=WARM)
def test_recycled_children_are_warm_again(celery_setup):
    found = [run(numbers) for _ in range(3)]
    assert len({each["pid"] for each in found}) == 3
    for each in found:
        assert_untouched_and_warm(each)
    assert "Timed out waiting for UP message" not in celery_setup.worker.logs()


@pytest.mark.worker(
    "--concurrency=1",
    "--max-tasks-per-child=1",
    bufpool_warm={"regular": {"1MiB": 100}},
    bufpool_warm_seconds=0,
)
def test_warm_up_stops_at_its_budget_and_the_rest_is_mapped_on_demand(celery_setup):
    found = run(borrow, MiB, 5)["regular"]
    assert found["gets"] == found["hits"] + found["misses"] == 5
    assert found["misses"] > 0
    assert found["held_bytes"] < 100 * MiB
    celery_setup.worker.assert_log_exists("when bufpool_warm_seconds (0 s) was over")
    assert run(borrow, MiB, 5)["regular"]["in_use"] == 5
