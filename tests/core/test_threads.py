"""Many threads on one pool: nothing is lent twice, numbers are exact."""

import random
import sys
import threading
import warnings

import pytest

from bufpool_workers import memory

THREADS = 8
ROUNDS = 400


@pytest.fixture(autouse=True)
def often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work):
    barrier = threading.Barrier(THREADS)
    errors = []

    def body(number):
        try:
            barrier.wait(10)
            work(number)
        except BaseException as error:  # noqa: BLE001 - shown by the assert below
            errors.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_no_two_threads_share_memory(pool):
    def work(number):
        chance = random.Random(number)
        mark = bytes([number + 1])
        for _ in range(ROUNDS):
            nbytes = chance.choice([10, 3000, 70_000])
            with pool.acquire(nbytes) as buffer:
                buffer[:] = mark * nbytes
                assert bytes(buffer) == mark * nbytes

    in_threads(work)
    stats = pool.stats()
    assert stats.gets == stats.puts == stats.hits + stats.misses == THREADS * ROUNDS
    assert stats.in_use == 0


def test_release_against_views_trim_and_stats(pool):
    views = []

    def work(number):
        for turn in range(ROUNDS):
            if number == 0:
                pool.trim(all_idle=turn % 2 == 0)
                assert pool.stats().in_use >= 0
            elif number % 2:
                with pool.acquire(100) as buffer:
                    views.append(buffer[:])
            elif views:
                try:
                    view = views.pop()
                except IndexError:
                    continue
                view.release()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_threads(work)
        while views:
            views.pop().release()
    stats = pool.stats()
    assert stats.in_use == 0
    assert stats.gets == stats.puts == THREADS // 2 * ROUNDS


def test_first_use_from_many_threads_makes_one_set_of_pools(process_pools):
    del process_pools
    memory.close_current_pools()
    seen = []
    in_threads(lambda _: seen.append(memory.current_pools()))
    assert len(set(map(id, seen))) == 1
