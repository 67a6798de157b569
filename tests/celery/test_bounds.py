"""Many tasks at once, caps and bad requests in real workers: exact numbers, nothing shared."""

import pytest
from celery import group

import bufpool_workers as bp
from bufpool_workers import KiB

TASKS = 200


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_tasks_at_once_never_share_a_buffer(start_worker, pool):
    worker = start_worker("plugin_app:app", arguments=[f"--pool={pool}", "--concurrency=4"])
    tasks = group(
        worker.client.signature("pool_tasks.use_alone", (4 * KiB, number % 256))
        for number in range(TASKS)
    )
    done = worker.result(tasks.apply_async())
    assert all(intact for _pid, intact in done)
    if pool != "prefork":
        regular = worker.run("pool_tasks.numbers")["regular"]
        assert regular["gets"] == regular["puts"] == TASKS
        assert regular["hits"] + regular["misses"] == TASKS


SMALL = {
    "bufpool_max_bytes": {"regular": "8KiB"},
    "bufpool_max_buffer_bytes": "16MiB",
    "bufpool_warm": {"regular": {"4KiB": 2}},
}


def test_request_at_the_cap_is_lent_and_counted(start_worker):
    worker = start_worker("plugin_app:app", arguments=["--pool=solo"], settings=SMALL)
    held = worker.run("pool_tasks.borrow", 4 * KiB, 5)["regular"]
    assert (held["hits"], held["misses"], held["limit_hits"]) == (2, 3, 3)
    after = worker.run("pool_tasks.numbers")["regular"]
    assert (after["puts"], after["discards"], after["idle"]) == (5, 3, 2)


def test_request_at_the_cap_is_refused_when_so_set(start_worker):
    settings = SMALL | {"bufpool_at_limit": "raise"}
    worker = start_worker("plugin_app:app", arguments=["--pool=solo"], settings=settings)
    with pytest.raises(bp.LimitExceeded, match="regular pool"):
        worker.run("pool_tasks.borrow", 4 * KiB, 5)
    after = worker.run("pool_tasks.numbers")["regular"]
    assert after["gets"] == after["puts"] == after["hits"]
    assert (after["in_use"], after["idle"]) == (0, 2)


BAD_SIZES = {
    -1: ValueError,
    "many": ValueError,
    1 << 40: ValueError,
    True: TypeError,
    1.5: TypeError,
}


def test_bad_size_fails_its_task_alone(start_worker):
    worker = start_worker("plugin_app:app", arguments=["--pool=solo"], settings=SMALL)
    for size, error in BAD_SIZES.items():
        with pytest.raises(error):
            worker.run("pool_tasks.borrow", size, 1)
    after = worker.run("pool_tasks.numbers")["regular"]
    assert (after["gets"], after["puts"], after["idle"]) == (0, 0, 2)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_namespaced_settings_reach_the_children(start_worker, method):
    worker = start_worker(
        "namespaced_app:app",
        arguments=["--concurrency=1"],
        env={"TEST_START_METHOD": method},
    )
    assert worker.run("pool_tasks.numbers")["total"]["idle_by_size"] == {"8kb": 5}
    assert f"{method.capitalize()}PoolWorker-1" in worker.log()
