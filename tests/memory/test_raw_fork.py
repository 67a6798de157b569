"""The child of a fork by system call, in which no handler of fork has run."""

import ctypes
import mmap
import os
import platform
import signal
import sys

import pytest

from tests.memory.pools import block_offsets, make_pool

CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or CLONE is None, reason="the number of clone(2) is known for Linux"
)


def in_raw_child(check):
    pid = ctypes.PyDLL(None).syscall(CLONE, signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def draw(pool):
    with pool.acquire(32) as buffer:
        return bytes(buffer)


def test_random_bytes_are_neither_zeros_nor_the_parents():
    pool = make_pool("random")
    draw(pool)
    shared = mmap.mmap(-1, 320)

    def check():
        shared[:] = b"".join(draw(pool) for _ in range(10))
        return True

    in_raw_child(check)
    drawn = [shared[at : at + 32] for at in range(0, 320, 32)]
    assert bytes(32) not in drawn
    assert len({*drawn, *(draw(pool) for _ in range(10))}) == 20


@pytest.mark.parametrize("kind", ["secure", "random", "regular"])
def test_the_child_refuses_or_leaves_alone_what_is_the_parents(kind):
    pool = make_pool(kind)
    block = mmap.mmap(-1, 8 * len(block_offsets(pool)))
    pool.acquire(64).release()
    pool.bind_counters(block, block_offsets(pool))
    held = [pool.acquire(64)]
    before = block[:]

    def check():
        held.clear()
        pool.acquire(64).release()
        pool.close()
        return block[:] == before

    in_raw_child(check)
    held.pop().release()
    assert pool.stats().in_use == 0
