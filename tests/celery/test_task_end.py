"""What a task leaves behind is taken back at its end, counted, and never taken from another."""

import pytest

from bufpool_workers import KiB
from tests.celery.pool_tasks import (
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
from tests.support.celery_worker import run, wait_told

SIZE = 4 * KiB


@pytest.mark.usefixtures("celery_setup")
@pytest.mark.worker("--concurrency=1")
def test_buffer_held_at_the_end_is_reclaimed_and_counted():
    run(keep_buffer, SIZE)
    regular = run(numbers)["regular"]
    assert (regular["gets"], regular["puts"], regular["reclaims"]) == (1, 1, 1)
    assert (regular["in_use"], regular["escapes"]) == (0, 0)
    assert run(kept_is_released) == [True]


@pytest.mark.usefixtures("celery_setup")
@pytest.mark.worker("--concurrency=1")
def test_buffer_held_by_a_failing_task_is_reclaimed_and_counted():
    with pytest.raises(LookupError, match="on purpose"):
        run(keep_buffer_and_raise, SIZE)
    regular = run(numbers)["regular"]
    assert (regular["in_use"], regular["reclaims"]) == (0, 1)
    assert run(kept_is_released) == [True]


@pytest.mark.usefixtures("celery_setup")
@pytest.mark.worker("--concurrency=1")
def test_memory_that_is_still_viewed_waits_for_its_last_view():
    run(keep_view, SIZE)
    viewed = run(numbers)["regular"]
    assert (viewed["in_use"], viewed["reclaims"]) == (1, 1)
    assert run(kept_view_is_intact, SIZE)
    run(drop_kept)
    assert run(numbers)["regular"]["in_use"] == 0


@pytest.mark.usefixtures("celery_setup")
@pytest.mark.worker("--concurrency=1")
def test_eager_task_inside_another_loses_its_own_buffer_only():
    inside = run(keep_beside_eager, SIZE)
    assert inside["inner_released"]
    assert inside["outer_intact"]
    assert (inside["regular"]["in_use"], inside["regular"]["reclaims"]) == (1, 1)
    after = run(numbers)["regular"]
    assert (after["gets"], after["puts"], after["reclaims"]) == (2, 2, 1)


def assert_neighbour_keeps_its_buffer(setup):
    holder = hold_until_released.delay(SIZE, "gate")
    wait_told(setup.app, "holding")
    run(keep_buffer, SIZE)
    beside = run(numbers)["regular"]
    assert (beside["in_use"], beside["reclaims"]) == (1, 1)
    setup.app.backend.client.rpush("gate", 1)
    assert holder.get(timeout=20) is True
    after = run(numbers)["regular"]
    assert (after["gets"], after["puts"], after["reclaims"]) == (2, 2, 1)


@pytest.mark.worker("--pool=threads", "--concurrency=2")
def test_task_ending_in_one_thread_leaves_the_buffers_of_another(celery_setup):
    assert_neighbour_keeps_its_buffer(celery_setup)


@pytest.mark.worker("--pool=gevent", "--concurrency=2")
def test_task_ending_in_one_greenlet_leaves_the_buffers_of_another(celery_setup):
    assert_neighbour_keeps_its_buffer(celery_setup)
