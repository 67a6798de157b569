"""Tasks that are ended from outside lose nothing: time limits and revocation."""

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded

from bufpool_workers import KiB
from tests.celery.pool_tasks import numbers, spin, spin_decorated
from tests.support.celery_worker import run, wait_told

SIZE = 16 * KiB
INTERRUPTIONS = 25
# the main process reports the one, the child the other, in either order
INTERRUPTED = (TaskRevokedError, SoftTimeLimitExceeded)


def assert_nothing_is_lost(found):
    for kind in ("regular", "secure", "random"):
        pool = found[kind]
        assert pool["gets"] > 0
        assert pool["gets"] == pool["hits"] + pool["misses"]
        assert pool["gets"] - pool["puts"] == pool["in_use"] == 0


@pytest.mark.usefixtures("celery_setup")
@pytest.mark.worker("--concurrency=1")
def test_soft_time_limit_loses_no_buffer():
    before = run(numbers)
    with pytest.raises(SoftTimeLimitExceeded):
        spin.apply_async((SIZE,), soft_time_limit=1).get(timeout=20)
    after = run(numbers)
    assert after["pid"] == before["pid"]
    assert_nothing_is_lost(after)


@pytest.mark.usefixtures("celery_setup")
@pytest.mark.worker("--concurrency=1")
def test_soft_time_limit_in_a_decorated_function_loses_no_buffer():
    before = run(numbers)
    with pytest.raises(SoftTimeLimitExceeded):
        spin_decorated.apply_async(soft_time_limit=1).get(timeout=20)
    after = run(numbers)
    assert after["pid"] == before["pid"]
    regular = after["regular"]
    assert regular["gets"] == regular["puts"] > 0
    assert regular["in_use"] == 0


def test_revocations_that_the_child_survives_lose_no_buffer(start_worker):
    worker = start_worker("plugin_app:app", arguments=["--concurrency=1"])
    before = worker.run("pool_tasks.numbers")
    for _ in range(INTERRUPTIONS):
        running = worker.send("pool_tasks.spin", SIZE)
        wait_told(worker.client, "spinning")
        running.revoke(terminate=True, signal="SIGUSR1")  # what a soft time limit sends
        with pytest.raises(INTERRUPTED):
            worker.result(running)
    after = worker.run("pool_tasks.numbers")
    assert after["pid"] == before["pid"]
    assert_nothing_is_lost(after)


def assert_replaced_by_a_warm_child(setup, before):
    after = run(numbers)
    assert after["pid"] != before["pid"]
    assert after["regular"]["idle_by_size"] == before["regular"]["idle_by_size"] != {}
    assert after["total"]["gets"] == after["total"]["in_use"] == 0
    assert setup.worker.container.status == "running"


@pytest.mark.worker("--concurrency=1")
def test_child_after_a_hard_time_limit_is_warm_and_exact(celery_setup):
    before = run(numbers)
    with pytest.raises(TimeLimitExceeded):
        spin.apply_async((SIZE,), time_limit=1).get(timeout=20)
    assert_replaced_by_a_warm_child(celery_setup, before)


@pytest.mark.worker("--concurrency=1")
def test_child_after_revocation_with_terminate_is_warm_and_exact(celery_setup):
    before = run(numbers)
    running = spin.delay(SIZE)
    wait_told(celery_setup.app, "spinning")
    running.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        running.get(timeout=20)
    assert_replaced_by_a_warm_child(celery_setup, before)
