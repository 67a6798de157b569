"""Secure and random memory in the child of a fork: nothing of the parent's is there."""

from pathlib import Path

import pytest

from bufpool_workers import Pools, Settings
from tests.support.forked import check_forked

SECRET = b"kept for nobody but this task"


@pytest.fixture(params=["secure", "random"])
def pool(request):
    pools = Pools(Settings())
    yield getattr(pools, request.param)
    pools.close()


def test_view_that_a_child_inherits_sees_zeros_and_may_be_written(pool):
    buffer = pool.acquire(5000)
    buffer[:29] = SECRET
    view = memoryview(buffer)

    def check():
        assert bytes(view) == bytes(5000)
        view[:5] = b"child"
        assert bytes(view[:5]) == b"child"

    check_forked(check)
    assert bytes(view[:29]) == SECRET
    view.release()
    buffer.release()


def test_child_can_drop_what_it_inherited(pool):
    held = [[pool.acquire(100) for _ in range(40)]]
    views = [[memoryview(buffer) for buffer in held[0]]]
    with pool.acquire(100):
        pass

    def check():
        views.clear()
        held.clear()
        with pool.acquire(100) as own:
            own[:5] = b"child"
        pool.close()

    check_forked(check)
    views.clear()
    for buffer in held.pop():
        buffer.release()
    assert pool.stats().in_use == 0


def test_inherited_buffer_is_refused_in_the_child(pool):
    buffer = pool.acquire(64)

    def check():
        with pytest.raises(ValueError, match="belongs to the process that acquired it"):
            memoryview(buffer)

    check_forked(check)
    buffer.release()


def test_child_of_a_child_has_its_own_memory(pool):
    buffer = pool.acquire(64)
    view = memoryview(buffer)

    def grandchild():
        with pool.acquire(64) as own:
            own[:5] = b"grand"
        assert bytes(view) == bytes(64)

    def child():
        with pool.acquire(64) as own:
            own[:5] = b"child"
            check_forked(grandchild)
            assert bytes(own[:5]) == b"child"

    check_forked(child)
    view.release()
    buffer.release()


def test_no_descriptor_of_secure_memory_stays_open(pool):
    with pool.acquire(64):
        links = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert not any("secretmem" in link for link in links)


def test_parents_mappings_are_not_in_the_child(pool):
    buffer = pool.acquire(64)
    check_forked(_expect_no_secretmem)
    buffer.release()


def _expect_no_secretmem():
    assert "secretmem" not in Path("/proc/self/maps").read_text()
