"""A Buffer is what CPython's buffer protocol promises, and its misuse is refused."""

import ctypes
import gc
import hashlib
import io
import pickle
import re
import socket
import struct
import threading
import warnings

import numpy as np
import pytest

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.memory import _core
from bufpool_workers.runtime import current_runtime
from tests.memory.pools import KINDS, KiB, make_pool


@pytest.mark.parametrize("nbytes", [0, 1, 2048, 2049, 65536, 65537])
def test_it_is_exactly_as_long_as_asked(pool, nbytes):
    with pool.acquire(nbytes) as buffer:
        assert len(buffer) == buffer.nbytes == memoryview(buffer).nbytes == nbytes
        assert buffer.capacity >= nbytes
        assert buffer.kind == pool.kind
        assert buffer.released is False


def test_memoryview_is_writable_contiguous_bytes(pool):
    with pool.acquire(100) as buffer, memoryview(buffer) as view:
        assert (view.format, view.itemsize, view.ndim, view.shape) == ("B", 1, 1, (100,))
        assert view.contiguous
        assert not view.readonly
        assert view.obj is buffer


def test_indexing_and_slices_read_and_write():
    with make_pool().acquire(10) as buffer:
        buffer[:] = bytes(range(10))
        buffer[0] = 255
        buffer[-1] = 254
        buffer[1:3] = b"ab"
        assert (buffer[0], buffer[9], buffer[-2]) == (255, 254, 8)
        with buffer[1:4] as part:
            assert isinstance(part, memoryview)
            assert part.tobytes() == b"ab\x03"
        assert list(buffer)[:4] == [255, 97, 98, 3]


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (10, 0, IndexError),
        (0, 256, ValueError),
        (slice(0, 2), b"abc", ValueError),
        ("a", 0, TypeError),
    ],
)
def test_wrong_writes_raise_what_a_memoryview_raises(key, value, error):
    with make_pool().acquire(10) as buffer, pytest.raises(error):
        buffer[key] = value


def test_readinto_and_recv_into_fill_it():
    left, right = socket.socketpair()
    with left, right, make_pool().acquire(10) as buffer:
        assert io.BytesIO(b"0123456789abc").readinto(buffer) == 10
        assert bytes(buffer) == b"0123456789"
        left.sendall(b"hello")
        assert right.recv_into(buffer) == 5
        assert bytes(buffer) == b"hello56789"


def test_struct_hashlib_and_files_take_it(tmp_path):
    with make_pool().acquire(8) as buffer:
        struct.pack_into("<Q", buffer, 0, 1 << 40)
        assert struct.unpack_from("<Q", buffer) == (1 << 40,)
        assert hashlib.sha256(buffer).digest() == hashlib.sha256(bytes(buffer)).digest()
        (tmp_path / "file").write_bytes(buffer)
        assert (tmp_path / "file").read_bytes() == bytes(buffer)


def test_numpy_shares_its_memory():
    with make_pool().acquire(4096) as buffer:
        array = np.frombuffer(buffer, dtype=np.float32)
        array[:] = 1.5
        assert struct.unpack_from("<f", buffer, 4092) == (1.5,)
        with pytest.raises(BufferError, match=r"has 1 live view$"):
            buffer.release()
        view = memoryview(buffer)
        with pytest.raises(BufferError, match=r"has 2 live views$"):
            buffer.release()
        del array, view
        buffer.release()


def test_ctypes_view_counts_as_a_view():
    buffer = make_pool().acquire(16)
    array = (ctypes.c_char * 16).from_buffer(buffer)
    with pytest.raises(BufferError):
        buffer.release()
    array.value = b"abc"
    assert bytes(buffer[:4]) == b"abc\0"
    del array
    gc.collect()
    buffer.release()


@pytest.mark.parametrize(
    "use",
    [
        len,
        bytes,
        memoryview,
        lambda buffer: buffer[0],
        lambda buffer: buffer[:],
        lambda buffer: buffer.__setitem__(0, 1),
        lambda buffer: buffer.nbytes,
        lambda buffer: buffer.capacity,
        lambda buffer: buffer.release(),
        lambda buffer: buffer.__enter__(),
    ],
)
def test_after_release_every_access_raises(pool, use):
    buffer = pool.acquire(10)
    buffer.release()
    with pytest.raises(ValueError, match="buffer is released"):
        use(buffer)
    assert buffer.released is True
    assert pool.stats().puts == 1


def test_release_inside_a_with_is_no_error(pool):
    with pool.acquire(10) as buffer:
        buffer.release()
    assert pool.stats().in_use == 0


def test_a_handle_never_reaches_the_next_lending():
    pool = make_pool(warm={2048: 1})
    pool.warm()
    first = pool.acquire(10)
    first.release()
    second = pool.acquire(10)
    with pytest.raises(ValueError, match="released"):
        first.release()
    assert not second.released
    second.release()


def test_repr_tells_size_and_kind_but_no_content(pool):
    buffer = pool.acquire(10)
    buffer[:] = b"secret-xyz"
    assert repr(buffer) == f"<bufpool_workers.Buffer, {pool.kind}, 10 bytes>"
    buffer.release()
    assert repr(buffer) == "<bufpool_workers.Buffer, released>"


def test_it_cannot_be_pickled(pool):
    with pool.acquire(10) as buffer, pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(buffer)


def test_it_is_not_hashable():
    with make_pool().acquire(10) as buffer, pytest.raises(TypeError, match="unhashable"):
        hash(buffer)


def test_it_is_not_made_by_hand():
    with pytest.raises(TypeError, match="comes from"):
        bp.Buffer()
    stray = bp.Buffer.__new__(bp.Buffer)
    assert stray.released
    with pytest.raises(ValueError, match="released"):
        bytes(stray)
    with pytest.raises(TypeError):
        type("Mine", (bp.Buffer,), {})


@pytest.mark.parametrize("drop", [True, False])
def test_escaped_view_stays_valid_and_its_memory_apart(drop):
    pool = make_pool(warm={2048: 1})
    pool.warm()
    text = "a view outlived its buffer of 10 bytes"
    with pytest.warns(ResourceWarning, match=text) as caught, pool.acquire(10) as buffer:
        view = buffer[:]
        view[:] = b"0123456789"
    assert caught[0].filename == __file__
    if drop:
        del buffer
    with pool.acquire(10) as other:
        other[:] = b"9876543210"
        assert view.tobytes() == b"0123456789"
    assert (pool.stats().escapes, pool.stats().in_use) == (1, 1)
    view.release()
    assert (pool.stats().in_use, pool.stats().puts) == (0, 2)


def test_view_of_a_view_counts_until_the_last_dies():
    pool = make_pool()
    with pytest.warns(ResourceWarning), pool.acquire(100) as buffer:
        part = memoryview(buffer)[10:20][2:4]
    assert pool.stats().in_use == 1
    del part
    assert pool.stats().in_use == 0


def test_memory_waits_for_the_last_of_several_views(pool):
    with pytest.warns(ResourceWarning), pool.acquire(100) as buffer:
        views = [memoryview(buffer), memoryview(buffer)]
    views.pop().release()
    assert pool.stats().in_use == 1
    views.pop().release()
    assert pool.stats().in_use == 0


def test_last_view_may_die_in_another_thread():
    pool = make_pool()
    with pytest.warns(ResourceWarning), pool.acquire(100) as buffer:
        views = [buffer[:]]
    thread = threading.Thread(target=views.pop)
    thread.start()
    thread.join()
    assert pool.stats().in_use == 0


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_escaped_view_of_a_secret_is_overwritten_at_once(kind):
    pool = make_pool(kind)
    with pytest.warns(ResourceWarning), pool.acquire(32) as buffer:
        buffer[:] = b"s" * 32
        view = buffer[:]
    left = view.tobytes()
    view.release()
    assert b"ss" not in left
    if kind == "secure":
        assert left == bytes(32)
    else:
        with pool.acquire(32) as again:
            assert bytes(again) != left


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_next_taker_never_sees_what_was_written(kind):
    pool = make_pool(kind, warm={2048: 1})
    pool.warm()
    for length in (2048, 32, 100, 2048):
        with pool.acquire(length) as buffer:
            assert b"secret" not in bytes(buffer)
            buffer[:] = (b"secret" * 400)[:length]


def test_random_buffers_never_repeat():
    pool = make_pool("random")
    seen = set()
    for _ in range(2000):
        with pool.acquire(16) as buffer:
            seen.add(bytes(buffer))
    assert len(seen) == 2000


def test_dropped_buffer_is_returned_counted_and_warned_of(pool):
    with pytest.warns(ResourceWarning, match=f"{pool.kind} pool: a buffer of 10 bytes was dropped"):
        pool.acquire(10)
    stats = pool.stats()
    assert (stats.reclaims, stats.in_use, stats.puts) == (1, 0, 1)


def test_buffer_dropped_by_an_exception_leaves_the_exception_alone(pool):
    with (
        pytest.warns(ResourceWarning, match="dropped"),
        pytest.raises(ZeroDivisionError) as raised,
    ):
        # on the interpreter's stack, so that it goes while the exception is on its way
        [pool.acquire(10), 1 // 0]
    assert raised.value.__context__ is None
    assert pool.stats().in_use == 0


def test_warning_that_became_an_error_loses_nothing(pool):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ResourceWarning), pool.acquire(10) as buffer:
            view = buffer[:]
    view.release()
    assert pool.stats().in_use == 0


def test_debug_names_the_place_of_acquisition(process_pools):
    del process_pools
    testing.configure(bp.Settings(debug=True))
    place = re.escape(f"acquired at {__file__}:")
    with pytest.warns(ResourceWarning, match=place), bp.buffer(10) as buffer:
        view = buffer[:]
    view.release()
    with pytest.warns(ResourceWarning, match=place):
        bp.buffer(10)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_escapes_are_told_with_the_place_of_acquisition_when_it_is_known(
    process_pools, monkeypatch, kind
):
    del process_pools
    told = []
    for debug in (False, True):
        testing.configure(bp.Settings(debug=debug))
        note = lambda *escape: told.append(escape)  # noqa: E731
        monkeypatch.setattr(current_runtime().counters, "note_escape", note)
        pools = bp.current_pools()
        with getattr(pools, kind).acquire(10) as buffer:
            view = buffer[:]
        view.release()
        _core.enter_scope("task")
        held = getattr(pools, kind).acquire(10)
        view = held[:]
        pools.end_task("task", name="task")
        view.release()
        with getattr(pools, kind).acquire(10):
            pass  # no escape
        assert pools.stats().total.escapes == 2
    assert [pool for pool, _ in told] == [kind, kind]
    assert all(place.startswith(f"{__file__}:") for _, place in told)


def test_warning_hook_may_use_the_pool(monkeypatch):
    pool = make_pool()
    seen = []

    def showwarning(message, *_args, **_kwargs):
        with pool.acquire(2048) as buffer:
            buffer[:] = b"x" * 2048
            seen.append(str(message))

    monkeypatch.setattr(warnings, "showwarning", showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", showwarning)
        pool.acquire(2048)
        with pool.acquire(2048) as buffer:
            view = buffer[:]
    view.release()
    assert len(seen) == 2
    assert pool.stats().in_use == 0


@pytest.mark.parametrize("kind", KINDS)
def test_larger_than_the_largest_class_is_mapped_for_one_use(kind):
    pool = make_pool(kind)
    with pool.acquire(100 * KiB) as buffer:
        assert buffer.capacity >= 100 * KiB
        buffer[-1] = 1
    stats = pool.stats().sizes["larger"]
    assert (stats.gets, stats.misses, stats.puts, stats.discards, stats.held_bytes) == (
        1,
        1,
        1,
        1,
        0,
    )
    assert stats.bytes_allocated >= 100 * KiB
