"""Sizes, bounds, warm-up, trim, close, counters."""

import ctypes
import gc
import itertools
import mmap
import struct
import traceback
from pathlib import Path

import numpy as np
import pytest

import bufpool_workers as bp
from bufpool_workers.memory import FIELDS
from bufpool_workers.units import size_label
from tests.memory.pools import KINDS, KiB, check_numbers, make_pool


class Index:
    def __index__(self):
        return 100


@pytest.mark.parametrize(("asked", "size"), [(0, 2048), (1, 2048), (2048, 2048), (2049, 4096)])
def test_request_takes_the_smallest_class_that_fits(asked, size):
    with make_pool().acquire(asked) as buffer:
        assert buffer.capacity == size


@pytest.mark.parametrize("asked", [100, Index(), "100", "100B"])
def test_size_may_be_an_int_an_index_or_text(asked):
    with make_pool().acquire(asked) as buffer:
        assert len(buffer) == 100


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        (-1, ValueError, "size must not be negative, got -1"),
        (-(1 << 80), ValueError, "size must not be negative"),
        (True, TypeError, "not bool"),
        (1.0, TypeError, "float"),
        (None, TypeError, "NoneType"),
        ("4 apples", ValueError, 'such as "64KiB"'),
        ("4KB", ValueError, 'such as "64KiB"'),
        (1 << 23, bp.LimitExceeded, "the most for one buffer is 4194304"),
        (1 << 80, bp.LimitExceeded, "bufpool_max_buffer_bytes"),
    ],
)
def test_bad_size_is_refused_before_anything_is_taken(pool, asked, error, text):
    with pytest.raises(error, match=text):
        pool.acquire(asked)
    assert pool.stats() == make_pool().stats()


def test_index_that_uses_the_pool_and_raises_loses_nothing():
    pool = make_pool()

    class Meddler:
        def __index__(self):
            with pool.acquire(10):
                raise RuntimeError("meddled")

    with pytest.raises(RuntimeError, match="meddled"):
        pool.acquire(Meddler())
    assert (pool.stats().gets, pool.stats().in_use) == (1, 0)


def test_every_buffer_of_a_warm_class_is_there_at_once():
    pool = make_pool(warm={2048: 8, 65536: 3})
    warmth = pool.warm()
    assert (warmth.buffers, warmth.nbytes, warmth.complete) == (11, 8 * 2048 + 3 * 65536, True)
    held = [pool.acquire(2048) for _ in range(8)] + [pool.acquire(65536) for _ in range(3)]
    stats = pool.stats()
    assert (stats.hits, stats.misses, stats.idle) == (11, 0, 0)
    assert stats.bytes_allocated == warmth.nbytes
    assert stats.bytes_reused == warmth.nbytes
    for buffer in held:
        buffer.release()


def test_warm_memory_is_resident():
    pool = make_pool(warm={65536: 16}, max_bytes=1 << 22)
    pool.warm()
    buffers = [pool.acquire(65536) for _ in range(16)]
    assert all(map(_is_resident, buffers))
    for buffer in buffers:
        buffer.release()


def _address(buffer):
    return np.frombuffer(buffer, dtype=np.uint8).ctypes.data


def _is_resident(buffer):
    first, count = _address(buffer) // mmap.PAGESIZE, len(buffer) // mmap.PAGESIZE
    with Path("/proc/self/pagemap").open("rb") as pages:  # not smaps: neighbours merge there
        pages.seek(8 * first)
        return all(page >> 63 for (page,) in struct.iter_unpack("=Q", pages.read(8 * count)))


def _mapping_of(address):
    found, inside = {}, False
    for line in Path("/proc/self/smaps").read_text(encoding="ascii").splitlines():
        first, *words = line.split()
        if not first.endswith(":"):
            low, high = (int(part, 16) for part in first.split("-"))
            inside = low <= address < high
        elif inside:
            found[first[:-1]] = words
    return found


def _mapped_bytes():
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE


def _drop(buffer):
    del buffer


def _leave_in_view(buffer):
    with buffer:
        view = buffer[:]
    view.release()


def _overrun(buffer):
    ctypes.memset(_address(buffer) + len(buffer), 0x5A, 16)
    buffer.release()


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no huge pages here"
)
@pytest.mark.parametrize(("nbytes", "advised"), [(2 << 20, True), (1 << 20, False)])
def test_huge_pages_are_advised_from_their_size_on(nbytes, advised):
    with make_pool().acquire(nbytes) as buffer:
        assert ("hg" in _mapping_of(_address(buffer))["VmFlags"]) is advised


def test_warming_again_maps_nothing():
    pool = make_pool(warm={2048: 8})
    pool.warm()
    before = pool.stats()
    pool.warm()
    assert pool.stats() == before


def test_warm_up_without_time_is_incomplete_and_serves_all_the_same():
    pool = make_pool(warm={65536: 8})
    warmth = pool.warm(seconds=0)
    assert (warmth.buffers, warmth.complete) == (0, False)
    with pool.acquire(65536) as buffer:
        buffer[0] = 1
    assert pool.stats().misses == 1


def test_warm_levels_above_the_cap_are_refused():
    pool = make_pool(warm={65536: 32}, max_bytes=1 << 20)
    with pytest.raises(bp.LimitExceeded, match="32 buffers of 65536 bytes"):
        pool.warm()
    assert pool.stats().held_bytes == 0


def test_at_the_cap_it_lends_unpooled_memory():
    pool = make_pool(max_bytes=128 * KiB)
    buffers = [pool.acquire(65536) for _ in range(4)]
    stats = pool.stats()
    assert (stats.misses, stats.limit_hits, stats.held_bytes) == (4, 2, 128 * KiB)
    for buffer in buffers:
        buffer.release()
    assert (pool.stats().discards, pool.stats().idle) == (2, 2)


def test_a_cap_inside_a_page_is_not_exceeded():
    pool = make_pool(max_bytes=66 * KiB)
    with pool.acquire(65536), pool.acquire(2048):
        stats = pool.stats()
        assert (stats.limit_hits, stats.held_bytes) == (1, 64 * KiB)


def test_at_the_cap_it_raises_where_that_is_set():
    pool = make_pool(max_bytes=64 * KiB, lend_at_limit=False)
    with pool.acquire(65536), pytest.raises(bp.LimitExceeded, match="65536 of at most 65536"):
        pool.acquire(1)
    stats = pool.stats()
    assert (stats.gets, stats.limit_hits, stats.in_use) == (1, 1, 0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("kind", "end"),
    [
        *itertools.product(KINDS, [bp.Buffer.release, _drop, _leave_in_view]),
        ("secure", _overrun),
        ("random", _overrun),
    ],
)
def test_memory_mapped_for_one_use_is_unmapped_after_it(kind, end):
    pool = make_pool(kind)
    # the random kind loads cryptography at its first use, in a thread with an arena of its own
    pool.acquire(64).release()
    before = _mapped_bytes()
    for _ in range(50):
        end(pool.acquire(1 << 20))
    assert pool.stats().discards == 50
    assert _mapped_bytes() - before < 10 << 20


def test_what_is_larger_than_all_classes_is_under_the_cap_where_that_raises(pool):
    pool = make_pool(pool.kind, max_bytes=1 << 20, lend_at_limit=False)
    larger = pool.acquire(600_000)
    with pytest.raises(bp.LimitExceeded, match=r"500000 bytes asked while 6\d+ of at most 1048576"):
        pool.acquire(500_000)
    classed = [pool.acquire(65536) for _ in range(5)]
    with pytest.raises(bp.LimitExceeded):
        pool.acquire(65536 + 65536)
    larger.release()
    pool.acquire(500_000).release()
    for buffer in classed:
        buffer.release()
    check_numbers(pool)
    assert pool.stats().limit_hits == 2


def test_what_is_no_size_is_not_quoted_where_it_may_be_a_secret(pool):
    with pytest.raises(ValueError, match="size") as caught:
        pool.acquire("correct horse")
    shown = "".join(traceback.format_exception(caught.value))
    said = "correct horse" in shown.replace('pool.acquire("correct horse")', "")
    assert said == (pool.kind == "regular")
    assert caught.value.__context__ is None


def test_trim_gives_back_what_is_above_the_warm_level():
    pool = make_pool(warm={65536: 2})
    pool.warm()
    for buffer in [pool.acquire(65536) for _ in range(5)]:
        buffer.release()
    assert pool.stats().held_bytes == 5 * 65536
    assert pool.trim() == 3 * 65536
    assert (pool.stats().held_bytes, pool.stats().idle) == (2 * 65536, 2)
    assert pool.trim() == 0


def test_trim_of_the_unneeded_spares_what_was_used_since():
    pool = make_pool()
    for buffer in [pool.acquire(65536) for _ in range(4)]:
        buffer.release()
    assert pool.trim(all_idle=False) == 0
    for buffer in [pool.acquire(65536) for _ in range(3)]:
        buffer.release()
    assert pool.trim(all_idle=False) == 65536
    assert pool.stats().idle == 3


def test_trim_spares_memory_in_use_and_in_view():
    pool = make_pool()
    with pytest.warns(ResourceWarning), pool.acquire(65536) as buffer:
        view = buffer[:]
    with pool.acquire(65536) as held:
        held[0] = view[0] = 7
        assert pool.trim() == 0
        assert held[0] == view[0] == 7
    view.release()
    assert pool.trim() == 2 * 65536


def test_closed_pool_refuses_and_lets_buffers_end():
    pool = make_pool(warm={2048: 2})
    pool.warm()
    buffer = pool.acquire(2048)
    pool.close()
    pool.close()
    with pytest.raises(bp.PoolClosed, match="regular pool: closed"):
        pool.acquire(1)
    buffer[0] = 1
    buffer.release()
    stats = pool.stats()
    assert (stats.in_use, stats.discards, stats.held_bytes, stats.idle) == (0, 1, 0, 0)


def test_buffer_outlives_its_pool():
    pool = make_pool()
    buffer = pool.acquire(2048)
    del pool
    gc.collect()
    buffer[:] = b"x" * 2048
    assert bytes(buffer) == b"x" * 2048
    buffer.release()


def _offsets(pool, *, first=8, step=24):
    return [first + step * i for i in range(len(pool.labels) * len(FIELDS))]


def test_counters_move_into_a_mapped_file_and_stay_right(tmp_path):
    pool = make_pool()
    with pool.acquire(10):
        pass
    path = tmp_path / "counters"
    offsets = _offsets(pool)
    path.write_bytes(bytes(offsets[-1] + 8))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as block:
        pool.bind_counters(block, offsets)
        with pool.acquire(10):
            pass
        values = [struct.unpack_from("d", path.read_bytes(), at)[0] for at in offsets]
        assert values == [value for numbers in pool.counters() for value in numbers]
        assert dict(zip(FIELDS, values, strict=False))["gets"] == 2
        with pytest.raises(BufferError):
            block.close()
        pool.bind_counters(bytearray(offsets[-1] + 8), offsets)
    assert pool.stats().gets == 2


@pytest.mark.parametrize("bad", [[0], None])
def test_wrong_number_of_offsets_is_refused(bad):
    pool = make_pool()
    offsets = bad or [*_offsets(pool), 0]
    with pytest.raises(ValueError, match="counter offsets"):
        pool.bind_counters(bytearray(10_000), offsets)


@pytest.mark.parametrize("at", [-8, 4, 9_996, 10_000, 1 << 40])
def test_offset_outside_the_block_is_refused(at):
    pool = make_pool()
    offsets = _offsets(pool)
    offsets[3] = at
    block = bytearray(10_000)
    with pytest.raises(ValueError, match="offset"):
        pool.bind_counters(block, offsets)
    block.extend(b"x")  # nothing holds it


def test_read_only_block_is_refused():
    pool = make_pool()
    with pytest.raises(BufferError):
        pool.bind_counters(bytes(10_000), _offsets(pool))


def test_labels_name_the_classes():
    assert make_pool().labels == ("2kb", "4kb", "64kb", "larger")
    assert [size_label(n) for n in (1000, 1 << 20, 3 << 30)] == ["1000b", "1mb", "3gb"]


def test_stats_add_up(process_pools):
    with bp.buffer(10), bp.secure_buffer(20), bp.random_buffer(30):
        stats = bp.stats()
        assert stats.total.in_use == 3
        assert stats.total.sizes["2kb"].in_use == 3
    assert (stats.regular.gets, stats.secure.gets, stats.random.gets) == (1, 1, 1)
    assert bp.current_pools() is process_pools
    with bp.buffer(10):
        pass
    assert bp.stats().regular.hit_rate == 50.0
    assert 0 < bp.stats().regular.reuse_efficiency < 100


def test_fresh_numbers_are_zero():
    stats = make_pool().stats()
    assert (stats.hit_rate, stats.reuse_efficiency, stats.gets) == (None, None, 0)
