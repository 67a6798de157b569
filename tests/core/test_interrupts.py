"""Asynchronous exceptions at random bytecodes lose no buffer and no count.

A timer raises in the main thread, as Celery's soft time limit does.
"""

import signal
import warnings
from contextlib import contextmanager

import pytest
from pools import make_pool

import bufpool_workers as bp
from bufpool_workers import memory

INTERRUPTS = 3000


class Interrupted(Exception):
    pass


@contextmanager
def storm():
    """Raise `Interrupted` after a while, a little later each time."""
    armed = False
    count = 0

    def interrupt(*_):
        if armed:
            raise Interrupted

    def calls(function):
        nonlocal armed, count
        delay = 1e-6 * (1 + count % 80)
        count += 1
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, delay)
            for _ in range(2000):
                function()
        except Interrupted:
            return True
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        return False

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield calls
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupted(calls, function):
    """Run until it was interrupted often enough; gives how often."""
    found = 0
    for _ in range(2 * INTERRUPTS):
        try:
            found += calls(function)
        except Interrupted:  # between the loop and its end
            found += 1
        if found == INTERRUPTS:
            break
    return found


def check(pool, found):
    stats = pool.stats()
    assert found == INTERRUPTS
    assert stats.in_use == 0
    assert stats.gets == stats.puts == stats.hits + stats.misses
    assert stats.held_bytes <= pool.max_bytes
    idle = {label: numbers.idle for label, numbers in stats.sizes.items()}
    assert pool.trim() == stats.held_bytes, idle


def use_with(pool):
    with pool.acquire(100) as buffer:
        buffer[0] = 1


def use_release(pool):
    buffer = pool.acquire(3000)
    buffer[0] = 1
    buffer.release()


def use_views(pool):
    with pool.acquire(100) as buffer:
        view = buffer[10:]
        part = view[1:]
        part[0] = 1
        del view, part


@pytest.mark.parametrize("use", [use_with, use_release, use_views])
def test_interrupted_use_loses_no_buffer(pool, use):
    with storm() as calls:
        found = interrupted(calls, lambda: use(pool))
    check(pool, found)


def test_interrupted_decorated_function_loses_no_buffer(process_pools):
    @bp.pooled_buffer(4096)
    @bp.pooled_buffer(lambda n: n, name="other")
    def work(n, *, buf, other):
        buf[0] = other[0] = n % 256
        return len(buf) + len(other)

    with storm() as calls:
        found = interrupted(calls, lambda: work(100))
    check(process_pools.regular, found)


def test_interrupted_task_end_loses_no_buffer(process_pools):
    def task():
        memory.begin_task("task")
        try:
            buffer = memory.buffer(100)
            buffer[0] = 1
        finally:
            process_pools.end_task("task", name="task")

    with storm() as calls:
        found = interrupted(calls, task)
    process_pools.end_task("task", name="task")
    check(process_pools.regular, found)


def test_interrupts_reach_a_pool_written_in_python():
    """The storm is strong enough to show what it is for: a plain pool loses buffers in it."""
    free, made = [], []

    def use():
        if free:
            buffer = free.pop()
        else:
            buffer = bytearray(10)
            made.append(id(buffer))
        try:
            buffer[0] = 1
        finally:
            free.append(buffer)

    with storm() as calls:
        for _ in range(20):
            interrupted(calls, use)
            if len(made) != len(free):
                return
    pytest.fail("the storm did not disturb a pool written in Python")


def test_pool_that_failed_to_be_made_leaves_the_process_usable():
    with pytest.raises(ValueError, match="liquid"):
        make_pool("liquid")
    with make_pool().acquire(1):
        pass
