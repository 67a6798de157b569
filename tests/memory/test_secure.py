"""Secure buffers: what others can read, what is left after release, what an overflow does."""

import ctypes
import logging
import mmap
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from bufpool_workers import KiB, MiB, Pools, Settings, memory, testing
from bufpool_workers.memory import _core
from bufpool_workers.units import format_bytes

SECRET = b"kept for nobody but this task"


@pytest.fixture
def pools():
    pools = Pools(Settings())
    yield pools
    pools.close()


def address(buffer):
    """Return the address of the buffer's memory."""
    view = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    return ctypes.addressof(view)


def leave(buffer):
    """End a buffer's `with` while a view of it lives on."""
    with pytest.warns(ResourceWarning, match="outlived"):
        buffer.__exit__(None, None, None)


def mapping_of(at):
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(number, 16) for number in line.split()[0].split("-"))
        if low <= at < high:
            return low, high, line
    raise AssertionError(f"nothing is mapped at {at:#x}")


@pytest.mark.parametrize("nbytes", [0, 1, 64, 4 * KiB, 5000, 5 * MiB, 20 * MiB])
def test_what_was_written_is_gone_after_release(pools, nbytes):
    buffer = pools.secure.acquire(nbytes)
    assert bytes(buffer) == bytes(nbytes)
    buffer[:] = b"\xa5" * nbytes
    at, keeps = address(buffer), nbytes < 4 * MiB
    buffer.release()
    if keeps:  # what is larger than the classes under the cap is unmapped
        assert ctypes.string_at(at, nbytes) == bytes(nbytes)


def test_what_is_lent_is_zero_even_when_it_was_written_while_idle(pools):
    buffer = pools.secure.acquire(64)
    at = address(buffer)
    buffer.release()
    ctypes.memset(at, 0x5A, 64)
    with pools.secure.acquire(64) as again:
        assert address(again) == at
        assert bytes(again) == bytes(64)


def test_views_that_outlive_a_secure_buffer_see_zeros(pools):
    buffer = pools.secure.acquire(100)
    buffer[:29] = SECRET
    view = memoryview(buffer)
    leave(buffer)
    assert bytes(view) == bytes(100)


def test_what_an_outliving_view_writes_is_gone_before_the_memory_is_lent_again(pools):
    buffer = pools.secure.acquire(100)
    at = address(buffer)
    view = memoryview(buffer)
    leave(buffer)
    view[71:] = SECRET
    del view
    assert ctypes.string_at(at, 100) == bytes(100)


def test_buffer_taken_back_at_the_end_of_its_task_is_wiped(pools):
    _core.enter_scope("1")
    buffer = pools.secure.acquire(64)
    buffer[:29] = SECRET
    at = address(buffer)
    with pytest.warns(ResourceWarning):
        assert pools.end_task("1", name="login") == 1
    assert ctypes.string_at(at, 64) == bytes(64)


def test_buffer_dropped_without_release_is_wiped(pools):
    buffer = pools.secure.acquire(64)
    buffer[:29] = SECRET
    at = address(buffer)
    with pytest.warns(ResourceWarning):
        del buffer
    assert ctypes.string_at(at, 64) == bytes(64)


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_closing_takes_back_and_overwrites_what_is_out(pools, kind):
    buffer = getattr(pools, kind).acquire(64)
    buffer[:29] = SECRET
    view = memoryview(buffer)
    pools.close()
    assert SECRET not in bytes(view)
    assert buffer.released
    with pytest.raises(ValueError, match="released"):
        bytes(buffer)
    assert getattr(pools, kind).stats().reclaims == 1


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_slabs_lie_between_pages_that_nobody_may_touch(pools, kind):
    buffer = getattr(pools, kind).acquire(64)
    low, high, _ = mapping_of(address(buffer))
    for page in (low - 1, high):
        assert mapping_of(page)[2].split()[1] == "---p"
    buffer.release()


needs_locks = pytest.mark.skipif(
    memory.reachable_level(MiB) == "plain", reason="less than 1 MiB may be locked here"
)


@needs_locks
def test_highest_level_is_used_and_reported(pools):
    assert pools.stats().secure_level == memory.reachable_level()
    with pools.secure.acquire(64) as buffer:
        assert pools.stats().secure_level == memory.reachable_level()
        if memory.reachable_level() == "memfd":
            assert "secretmem" in mapping_of(address(buffer))[2]
    assert pools.secure.stats().unlocked == 0


@needs_locks
def test_locked_bytes_and_level_are_kept_in_a_block(pools):
    block = mmap.mmap(-1, 4096)
    before = memory.secure_locked_bytes()
    memory.bind_gauges(block, level=16, locked=24)
    buffer = pools.secure.acquire(64)
    level, locked = struct.unpack_from("2d", block, 16)
    assert memory.LEVELS[int(level)] == memory.reachable_level()
    assert locked == memory.secure_locked_bytes() > before
    buffer.release()
    pools.close()
    assert struct.unpack_from("2d", block, 16)[1] == memory.secure_locked_bytes() < locked


@pytest.mark.parametrize(("level", "locked"), [(0, 4096), (-8, 8), (4, 8)])
def test_block_for_the_gauges_is_checked(level, locked):
    with pytest.raises(ValueError, match="not a multiple of 8 inside a block of 4096 bytes"):
        memory.bind_gauges(bytearray(4096), level=level, locked=locked)


@pytest.mark.parametrize("kind", ["secure", "random"])
@pytest.mark.parametrize("nbytes", [0, 1, 100, 2048, 5 * MiB])
def test_overflow_is_counted_logged_without_content_and_its_slot_retired(
    pools, caplog, kind, nbytes
):
    pool = getattr(pools, kind)
    buffer = pool.acquire(nbytes)
    at = address(buffer)
    ctypes.memmove(at + nbytes, SECRET, 16)
    testing.reset()
    with caplog.at_level(logging.WARNING):
        buffer.release()
    assert pool.stats().damages == pool.stats().discards == 1
    assert pool.stats().in_use == 0
    message = next(text for text in caplog.messages if text.startswith("bufpool: damages"))
    assert f"buffers written past their end ({kind} pool): 1, at {__file__}:" in message
    assert f"of {format_bytes(nbytes)}; their memory is not lent again" in message
    assert SECRET.decode()[:8] not in caplog.text
    if nbytes <= 2048:
        assert ctypes.string_at(at, nbytes + 16) == bytes(nbytes + 16)
        others = [pool.acquire(nbytes) for _ in range(64)]
        assert at not in map(address, others)
        for other in others:
            other.release()


def test_idle_random_slots_that_an_overflow_may_have_reached_are_filled_anew(pools):
    pool = pools.random
    held = {address(buffer): buffer for buffer in [pool.acquire(2048) for _ in range(8)]}
    low, high = next((at, at + 2112) for at in held if at + 2112 in held)
    held.pop(high).release()
    ctypes.memset(low + 2048, 0x5A, high - low)
    held.pop(low).release()
    again = {address(buffer): buffer for buffer in [pool.acquire(2048) for _ in range(8)]}
    for value in b"\0Z":  # as wiped, as written
        assert bytes(again[high]).count(value) < 64
    for buffer in (*held.values(), *again.values()):
        buffer.release()


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_nothing_stays_of_what_was_written_past_the_end(pools, kind):
    """Nor in the idle slots behind it; those that are lent are not touched."""
    pool = getattr(pools, kind)
    pool.acquire(2048).release()  # warms a slab of several slots
    buffers = sorted((pool.acquire(10) for _ in range(3)), key=address)
    first, lent, idle = map(address, buffers)
    assert idle - lent == lent - first == 2048 + 64
    buffers[2].release()
    buffers[1][:] = b"not yours!"
    ctypes.memmove(first, b"\xa5" * 2112, 2112)
    ctypes.memmove(idle, b"\xa5" * 500, 500)
    buffers[0].release()
    assert b"\xa5\xa5" not in ctypes.string_at(first, 2112)
    assert b"\xa5\xa5" not in ctypes.string_at(idle, 2112)
    assert bytes(buffers[1]) == b"not yours!"
    buffers[1].release()
    assert pool.stats().damages == 1


LEAPS = [
    pytest.param(nbytes, slot - 1 if at is None else nbytes + at, seen, id=f"{nbytes}+{at}")
    for nbytes, slot in [(1, 2112), (64, 2112), (2048, 2112), (3000, 4160), (60000, 65600)]
    for at, seen in [(16, True), (17, True), (47, True), (None, True)]
] + [
    pytest.param(70000, 70000 + 16 + 4095, True, id="the last byte that is looked at"),
    pytest.param(70000, 70000 + 16 + 4096, False, id="beyond"),
    pytest.param(20 * MiB, 20 * MiB + 63, True, id="mapped for one use"),
]


@pytest.mark.parametrize("kind", ["secure", "random"])
@pytest.mark.parametrize(("nbytes", "at", "seen"), LEAPS)
def test_one_byte_behind_the_canary_is_damage(pools, kind, nbytes, at, seen):
    pool = getattr(pools, kind)
    buffer = pool.acquire(nbytes)
    begins = address(buffer)
    ctypes.memset(begins + at, 1, 1)
    buffer.release()
    assert pool.stats().damages == seen
    if seen and nbytes < MiB:  # else unmapped
        assert ctypes.string_at(begins, at + 1) == bytes(at + 1)
        others = [pool.acquire(nbytes) for _ in range(3)]
        assert begins not in map(address, others)
        for other in others:
            other.release()


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_what_is_written_behind_a_buffer_that_views_keep_is_damage(pools, kind):
    pool = getattr(pools, kind)
    buffer = pool.acquire(64)
    view = memoryview(buffer)
    at = address(buffer)
    leave(buffer)
    ctypes.memset(at + 500, 1, 1)
    del view
    assert pool.stats().damages == pool.stats().discards == 1
    assert ctypes.string_at(at, 2112) == bytes(2112)


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_rest_of_an_idle_slot_is_zero(pools, kind):
    pool = getattr(pools, kind)
    for nbytes in (2048, 100, 0, 1000, 33):
        with pool.acquire(nbytes) as buffer:
            at = address(buffer) if nbytes else None
            buffer[:] = b"\xff" * nbytes
        if nbytes:
            assert ctypes.string_at(at + nbytes, 2112 - nbytes) == bytes(2112 - nbytes)
    assert pool.stats().damages == 0


def test_no_overflow_is_seen_where_none_was(pools):
    for nbytes in (*range(200), 2048, 4096, 4097):
        with pools.secure.acquire(nbytes) as buffer:
            buffer[:] = b"\xff" * nbytes
        with pools.random.acquire(nbytes) as buffer:
            buffer[:] = b"\xff" * nbytes
    total = pools.stats().total
    assert (total.damages, total.discards, total.in_use) == (0, 0, 0)


def test_caps_count_what_can_be_lent():
    small = Pools(Settings(max_bytes={"regular": 0, "secure": 4 * MiB, "random": 0}))
    with small.secure.acquire(4 * MiB):
        assert small.secure.stats().limit_hits == 0
        assert small.secure.stats().held_bytes == 4 * MiB
    small.close()


def test_regular_memory_is_left_alone_by_the_demanded_level():
    pools = Pools(Settings(secure_level="memfd"))
    with pools.regular.acquire(64) as buffer:
        assert re.search(r" rw-p ", mapping_of(address(buffer))[2])
    pools.close()


# The buffer is made that of a stdio file, which libc flushes after all handlers of exit; a
# reference too many keeps it from being released before.
HELD_AT_EXIT = """
import ctypes, sys
import bufpool_workers as bp
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
buffer = getattr(bp.current_pools(), sys.argv[1]).acquire(4096)
at = ctypes.addressof((ctypes.c_char * 4096).from_buffer(buffer))
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
assert libc.setvbuf(file, ctypes.c_void_p(at), 0, ctypes.c_size_t(4096)) == 0
assert libc.fwrite(b"a secret", 1, 8, file) == 8
assert bytes(buffer[:8]) == b"a secret"
ctypes.pythonapi.Py_IncRef(ctypes.py_object(buffer))
"""


@pytest.mark.parametrize(
    ("kind", "left"), [("regular", b"a secret"), ("secure", bytes(8)), ("random", bytes(8))]
)
def test_what_is_held_at_a_normal_exit_is_wiped(tmp_path, kind, left):
    file = tmp_path / "flushed"
    subprocess.run([sys.executable, "-c", HELD_AT_EXIT, kind, file], check=True, timeout=60)
    assert file.read_bytes() == left
