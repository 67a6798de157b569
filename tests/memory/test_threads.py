"""Many threads on one pool: nothing is lent twice, numbers are exact."""

import os
import random
import sys
import threading
import warnings

import pytest

from bufpool_workers.memory import _core
from bufpool_workers.runtime import current_runtime
from tests.memory.pools import SIZES, check_numbers, run_script
from tests.support.checkout import CHECKOUT

THREADS = 8
ROUNDS = 400
RACES = 300


@pytest.fixture(autouse=True)
def often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work, *, threads=THREADS):
    """Run `work(number)` in threads that begin together; raises the first of their errors."""
    barrier = threading.Barrier(threads)
    errors = []

    def body(number):
        try:
            barrier.wait(30)
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)
            barrier.abort()

    running = [threading.Thread(target=body, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):  # what the others got for it
            raise error
    assert errors == []


def race(rounds, *sides, before=lambda: None, after=lambda: None):
    """Run functions at the same moment, again and again, with `before` and `after` alone."""
    meet = threading.Barrier(len(sides), action=before)
    part = threading.Barrier(len(sides), action=after)

    def side(number):
        for _ in range(rounds):
            meet.wait(30)
            try:
                sides[number]()
            except BaseException:
                meet.abort()
                part.abort()
                raise
            part.wait(30)

    in_threads(side, threads=len(sides))


@pytest.fixture
def escapes_expected():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def test_no_two_threads_share_memory(pool):
    def work(number):
        chance = random.Random(number)
        mark = bytes([number + 1])
        for _ in range(ROUNDS):
            nbytes = chance.choice([chance.randrange(100), *SIZES, 70_000])
            with pool.acquire(nbytes) as buffer:
                buffer[:] = mark * nbytes
                assert bytes(buffer) == mark * nbytes

    in_threads(work)
    stats = pool.stats()
    assert stats.gets == stats.puts == stats.hits + stats.misses == THREADS * ROUNDS
    check_numbers(pool)


@pytest.mark.usefixtures("escapes_expected")
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

    in_threads(work)
    while views:
        views.pop().release()
    assert pool.stats().gets == pool.stats().puts == THREADS // 2 * ROUNDS
    check_numbers(pool)


def test_one_buffer_released_by_two_threads_at_once_goes_back_once(pool):
    lent, refused = [], []

    def release():
        try:
            lent[-1].release()
        except ValueError as error:
            refused.append(error)

    race(RACES, release, release, before=lambda: lent.append(pool.acquire(100)))
    assert len(refused) == RACES
    assert pool.stats().puts == RACES
    check_numbers(pool)


@pytest.mark.usefixtures("escapes_expected")
def test_release_against_the_death_of_the_last_view(pool):
    lent, views = [], []

    def begin():
        lent.append(pool.acquire(100))
        views.append(memoryview(lent[-1]))

    def leave():
        with lent[-1]:
            pass

    race(RACES, leave, lambda: views[-1].release(), before=begin)
    stats = pool.stats()
    assert stats.gets == stats.puts == RACES
    assert stats.escapes <= RACES
    check_numbers(pool)


@pytest.mark.usefixtures("escapes_expected")
def test_release_against_a_new_view_of_it(pool):
    """The view is either of the lent buffer, which then escapes, or refused; never of another's."""
    lent, views = [], []

    def view():
        try:
            views.append(memoryview(lent[-1]))
        except ValueError as error:
            assert "released" in str(error)  # noqa: PT017 - one of two outcomes

    def leave():
        with lent[-1]:
            pass

    def settle():
        other = pool.acquire(100)
        if views:
            other[:] = b"o" * 100
            assert bytes(views[-1]) != b"o" * 100
            views.pop().release()
        other.release()

    def lend():
        lent.append(pool.acquire(100))
        lent[-1][:] = b"l" * 100  # a regular slot may still hold what `settle` wrote earlier

    race(RACES, leave, view, before=lend, after=settle)
    assert pool.stats().gets == pool.stats().puts == 2 * RACES
    check_numbers(pool)


def test_release_against_trim(pool):
    lent = []

    def begin():
        lent[:] = [pool.acquire(nbytes) for nbytes in SIZES]

    def release():
        for buffer in lent:
            buffer[:4] = b"mine"
            buffer.release()

    race(RACES, release, pool.trim, pool.stats, before=begin)
    pool.trim()
    check_numbers(pool)
    assert pool.stats().held_bytes == 0


@pytest.mark.usefixtures("escapes_expected")
def test_release_against_the_end_of_its_task(process_pools):
    lent, taken = [], threading.Barrier(2)

    def task():  # it begins and ends in one context
        _core.enter_scope("task")
        lent.append(process_pools.regular.acquire(100))
        taken.wait(30)
        process_pools.end_task("task", name="task")

    def release():
        taken.wait(30)
        try:
            lent[-1].release()
        except ValueError as error:
            assert "released" in str(error)  # noqa: PT017 - the end came first

    race(RACES, task, release)
    stats = process_pools.regular.stats()
    assert stats.gets == stats.puts == RACES
    check_numbers(process_pools.regular)


def test_first_use_from_many_threads_makes_one_set_of_pools(process_pools):
    del process_pools
    current_runtime().stop_process()
    seen = []
    in_threads(lambda _: seen.append(current_runtime().pools))
    assert len(set(map(id, seen))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", ["regular", "secure", "random"])
def test_fork_while_other_threads_use_the_pool_leaves_both_sides_whole(kind):
    run_script(
        """
import os, sys, threading
sys.path += sys.argv[2:]
sys.setswitchinterval(1e-6)
from tests.memory.pools import make_pool
import warnings
warnings.simplefilter("ignore", DeprecationWarning)   # fork from a process with threads
pool, over = make_pool(sys.argv[1]), threading.Event()
def use():
    while not over.is_set():
        with pool.acquire(3000) as buffer:
            buffer[:4] = b"mine"
            assert buffer[:4] == b"mine"
threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(15):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with pool.acquire(3000) as buffer:
                buffer[:4] = b"mine"
                assert buffer[:4] == b"mine"
            stats = pool.stats()
            code = 0 if stats.gets == stats.puts == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
over.set()
for thread in threads:
    thread.join()
stats = pool.stats()
assert stats.gets == stats.puts == stats.hits + stats.misses > 0
""",
        kind,
        str(CHECKOUT),
    )
