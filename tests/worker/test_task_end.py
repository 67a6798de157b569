"""What a task leaves behind is taken back at its end, counted, and never taken from another."""

import pool_tasks
import pytest
from pool_tasks import (
    drop_kept,
    hold_until_released,
    keep_beside_eager,
    keep_buffer,
    keep_buffer_and_raise,
    keep_view,
    kept_is_released,
    kept_view_is_intact,
    numbers,
)

from bufpool_workers import KiB

SIZE = 4 * KiB


@pytest.fixture
def default_worker_tasks():
    return {pool_tasks}


def get(task, *args):
    return task.delay(*args).get(timeout=20)


@pytest.mark.worker("--concurrency=1")
def test_buffer_held_at_the_end_is_reclaimed_and_counted(celery_setup):
    get(keep_buffer, SIZE)
    regular = get(numbers)["regular"]
    assert (regular["gets"], regular["puts"], regular["reclaims"]) == (1, 1, 1)
    assert (regular["in_use"], regular["escapes"]) == (0, 0)
    assert get(kept_is_released) == [True]


@pytest.mark.worker("--concurrency=1")
def test_buffer_held_by_a_failing_task_is_reclaimed_and_counted(celery_setup):
    with pytest.raises(LookupError, match="on purpose"):
        get(keep_buffer_and_raise, SIZE)
    regular = get(numbers)["regular"]
    assert (regular["in_use"], regular["reclaims"]) == (0, 1)
    assert get(kept_is_released) == [True]


@pytest.mark.worker("--concurrency=1")
def test_memory_that_is_still_viewed_waits_for_its_last_view(celery_setup):
    get(keep_view, SIZE)
    viewed = get(numbers)["regular"]
    assert (viewed["in_use"], viewed["reclaims"]) == (1, 1)
    assert get(kept_view_is_intact, SIZE)
    get(drop_kept)
    assert get(numbers)["regular"]["in_use"] == 0


@pytest.mark.worker("--concurrency=1")
def test_eager_task_inside_another_loses_its_own_buffer_only(celery_setup):
    inside = get(keep_beside_eager, SIZE)
    assert inside["inner_released"]
    assert inside["outer_intact"]
    assert (inside["regular"]["in_use"], inside["regular"]["reclaims"]) == (1, 1)
    after = get(numbers)["regular"]
    assert (after["gets"], after["puts"], after["reclaims"]) == (2, 2, 1)


def assert_neighbour_keeps_its_buffer(setup):
    holder = hold_until_released.delay(SIZE, "gate")
    setup.worker.wait_for_log("holding gate")
    get(keep_buffer, SIZE)
    beside = get(numbers)["regular"]
    assert (beside["in_use"], beside["reclaims"]) == (1, 1)
    setup.app.backend.client.rpush("gate", 1)
    assert holder.get(timeout=20) is True
    after = get(numbers)["regular"]
    assert (after["gets"], after["puts"], after["reclaims"]) == (2, 2, 1)


@pytest.mark.worker("--pool=threads", "--concurrency=2")
def test_task_ending_in_one_thread_leaves_the_buffers_of_another(celery_setup):
    assert_neighbour_keeps_its_buffer(celery_setup)


@pytest.mark.worker("--pool=gevent", "--concurrency=2")
def test_task_ending_in_one_greenlet_leaves_the_buffers_of_another(celery_setup):
    assert_neighbour_keeps_its_buffer(celery_setup)
