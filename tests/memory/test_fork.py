"""After a fork the child has pools of its own, and the parent's numbers stay the parent's.

The forks happen in a process of their own: pytest's may have threads.
"""

import os
import subprocess
import sys
import textwrap

import pytest

from tests.memory.pools import KINDS

HEADER = """
import mmap, os, sys, warnings
from tests.support.forked import check_forked
from tests.memory.pools import block_offsets, make_pool

kind = sys.argv[1]
"""


def run(body, kind):
    script = HEADER + textwrap.dedent(body)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, kind],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_child_begins_with_empty_pools_and_zeros(kind):
    run(
        """
        pool = make_pool(kind, warm={2048: 4})
        pool.warm()
        with pool.acquire(10):
            pass
        before = pool.stats()

        def check():
            assert pool.stats() == make_pool(kind).stats()
            with pool.acquire(10):
                pass
            assert (pool.stats().gets, pool.stats().misses) == (1, 1)
            pool.warm()
            assert pool.stats().sizes["2kb"].idle >= 4

        check_forked(check)
        assert pool.stats() == before
        """,
        kind,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_inherited_buffer_counts_nothing_in_the_child(kind):
    run(
        """
        pool = make_pool(kind)
        dropped, left, released, kept = (pool.acquire(10) for _ in range(4))
        block = mmap.mmap(-1, 1 << 16)
        pool.bind_counters(block, block_offsets(pool))
        before = bytes(block)

        def check():
            global dropped
            dropped = None
            left.__exit__(None, None, None)
            released.release()
            assert left.released and released.released and not kept.released
            assert pool.stats() == make_pool(kind).stats()
            with pool.acquire(10):
                pass

        check_forked(check)
        assert bytes(block) == before
        for buffer in (dropped, left, released, kept):
            buffer.release()
        assert pool.stats().in_use == 0
        """,
        kind,
    )


def test_inherited_regular_buffer_can_be_read_and_written_apart():
    run(
        """
        pool = make_pool()
        buffer = pool.acquire(10)
        buffer[:] = b"0123456789"

        def check():
            assert bytes(buffer) == b"0123456789"
            buffer[:] = b"x" * 10
            others = [pool.acquire(10) for _ in range(100)]
            for other in others:
                other[:] = b"y" * 10
            assert bytes(buffer) == b"x" * 10
            for other in others:
                other.release()

        check_forked(check)
        assert bytes(buffer) == b"0123456789"
        buffer.release()
        """,
        "regular",
    )


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_inherited_secret_is_refused(kind):
    run(
        """
        pool = make_pool(kind)
        buffer = pool.acquire(10)

        def check():
            for use in (bytes, len, memoryview, lambda b: b[0], lambda b: b.capacity):
                try:
                    use(buffer)
                except ValueError as error:
                    assert "before the fork" in str(error)
                else:
                    raise AssertionError(use)

        check_forked(check)
        assert len(buffer) == 10
        buffer.release()
        """,
        kind,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_view_that_outlives_its_buffer_may_end_in_the_child(kind):
    run(
        """
        pool = make_pool(kind)
        buffer = pool.acquire(10)
        view = buffer[:]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            buffer.__exit__(None, None, None)
        block = mmap.mmap(-1, 1 << 16)
        pool.bind_counters(block, block_offsets(pool))
        before = bytes(block)

        def check():
            global view
            view.release()
            assert pool.stats().puts == 0

        check_forked(check)
        assert bytes(block) == before
        assert pool.stats().in_use == 1
        view.release()
        assert pool.stats().in_use == 0
        """,
        kind,
    )


def test_random_bytes_of_parent_and_children_never_repeat():
    run(
        """
        pool = make_pool(kind, warm={2048: 4})
        pool.warm()
        seen = set()

        def draw():
            with pool.acquire(32) as buffer:
                return bytes(buffer)

        for _ in range(20):
            reader, writer = os.pipe()
            seen.update(draw() for _ in range(10))
            check_forked(lambda: os.write(writer, b"".join(draw() for _ in range(20))))
            drawn = os.read(reader, 640)
            os.close(reader), os.close(writer)
            new = {drawn[i:i + 32] for i in range(0, 640, 32)}
            assert len(new) == 20 and not new & seen
            seen |= new
        assert len(seen) == 20 * 30
        """,
        "random",
    )


def test_prepare_is_called_before_the_first_store_in_each_process():
    run(
        """
        calls = []

        def prepare(pool):
            calls.append(os.getpid())
            assert sum(map(sum, pool.counters())) == 0

        pool = make_pool(kind, prepare=prepare)
        assert calls == []
        pool.acquire(10).release()
        pool.acquire(10).release()
        assert calls == [os.getpid()]

        def check():
            pool.acquire(10).release()
            assert calls[1:] == [os.getpid()]

        check_forked(check)
        """,
        "regular",
    )
