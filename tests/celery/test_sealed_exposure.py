"""Where a password shows that is a task's argument or its result: plain, and sealed."""

import bufpool_workers as bp
from tests.leaks import on_the_way


def plain_and_sealed(measure, **parts):
    return [measure(kind, **parts) for kind in ("plain", "sealed")]


def test_a_sealed_result_shows_nowhere_where_a_plain_one_does(redis_server, start_worker, tmp_path):
    plain, sealed = plain_and_sealed(
        on_the_way.of_result, redis_server=redis_server, start_worker=start_worker, folder=tmp_path
    )
    assert [place for place, count in plain.items() if not count] == []
    assert [place for place, count in sealed.items() if count] == []


def test_a_sealed_password_shows_nowhere_where_a_plain_one_does(
    redis_server, start_worker, tmp_path
):
    plain, sealed = plain_and_sealed(
        on_the_way.of_argument,
        redis_server=redis_server,
        start_worker=start_worker,
        folder=tmp_path,
    )
    assert [place for place, count in plain.items() if not count] == []
    # without secret memory, root can look into the buffer that the task has just now
    allowed = [] if bp.stats().secure_level == "memfd" else [on_the_way.IN_USE]
    assert [place for place, count in sealed.items() if count and place not in allowed] == []
