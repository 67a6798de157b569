"""Attempts to break the core from Python: each gets a clear error, and nothing is lost."""

import contextvars
import ctypes
import gc
import warnings
from types import SimpleNamespace

import pytest

from bufpool_workers import Buffer, LimitExceeded, PoolClosed
from bufpool_workers.memory import Pools, _core, release_on_exit
from bufpool_workers.settings import Settings
from tests.memory.pools import KINDS, block_offsets, check_numbers, make_pool, run_script


class Index:
    """An object that runs code when it is taken for an int."""

    def __init__(self, *actions):
        self.actions = list(actions)

    def __index__(self):
        action = self.actions.pop(0) if len(self.actions) > 1 else self.actions[0]
        return action() if callable(action) else action


class Liar(int):
    """An int that never compares as what it is."""

    def __lt__(self, other):
        return False

    def __gt__(self, other):
        return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("size", "error"),
    [
        (-1, ValueError),
        (Liar(-5), ValueError),
        (Liar(1 << 70), LimitExceeded),
        (1 << 63, LimitExceeded),
        (-(1 << 200), ValueError),
        (True, TypeError),
        (1.0, TypeError),
        (None, TypeError),
        (b"64", TypeError),
        ("64 furlongs", ValueError),
        ("-1", ValueError),
        ((1 << 24) + 1, LimitExceeded),
        pytest.param(10**5000, ValueError, id="5000-digits"),
    ],
)
def test_what_is_no_size_is_refused_before_anything_is_taken(kind, size, error):
    pool = make_pool(kind)
    with pytest.raises(error):
        pool.acquire(size)
    assert pool.stats().gets == 0
    assert pool.stats().held_bytes == 0


def test_a_size_may_use_the_pool_while_it_is_asked():
    pool = make_pool()
    inner = []

    def nested():
        inner.append(pool.acquire(64))
        pool.trim()
        return 65

    with pool.acquire(Index(nested)) as buf:
        assert len(buf) == 65
        check_numbers(pool, in_use=2)
    inner.pop().release()
    check_numbers(pool)


def test_a_size_may_close_the_pool_while_it_is_asked():
    pool = make_pool()
    with pytest.raises(PoolClosed):
        pool.acquire(Index(lambda: pool.close() or 64))
    check_numbers(pool)


def test_a_size_that_raises_takes_nothing():
    pool = make_pool()
    with pytest.raises(ZeroDivisionError):
        pool.acquire(Index(lambda: 1 // 0))
    check_numbers(pool)


@pytest.mark.parametrize(
    "sizes", [(0,), (-5,), (64, 64), (128, 64), (1 << 63,), ("64",), (None,), None]
)
def test_a_pool_refuses_size_classes_that_cannot_be(sizes):
    with pytest.raises((TypeError, ValueError)):
        make_pool(size_classes=sizes)


def test_a_pool_refuses_a_kind_that_is_none():
    with pytest.raises(ValueError, match=r"must be one of regular, secure, random, got .bogus"):
        make_pool("bogus")


@pytest.mark.parametrize(
    "call", [lambda: release_on_exit(None, None), lambda: _core.end_scope(None)]
)
def test_none_is_no_buffer_and_no_scope(call):
    with pytest.raises(TypeError):
        call()


def test_end_of_an_unknown_task_takes_back_nothing():
    pool = make_pool()
    _core.enter_scope("mine")
    with pool.acquire(64) as buf:
        assert _core.end_scope("other", pool) == []
        assert not buf.released
    with pytest.raises(TypeError):
        _core.end_scope("mine", None, 5)
    assert _core.end_scope("mine", pool) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ended", [0, 1])
def test_end_of_a_task_takes_back_nothing_of_another_one(kind, ended):
    pool = make_pool(kind)
    tasks = [contextvars.Context(), contextvars.Context()]
    for task in tasks:
        task.run(_core.enter_scope, "task")
    held = [task.run(pool.acquire, 64) for task in tasks]
    loose = contextvars.Context().run(pool.acquire, 64)
    assert len(tasks[ended].run(_core.end_scope, "task", pool)) == 1
    assert tasks[ended].run(_core.end_scope, "task", pool) == []
    assert [buffer.released for buffer in held] == [ended == 0, ended == 1]
    assert not loose.released
    loose.release()
    held[1 - ended].release()
    check_numbers(pool)


def test_a_place_that_is_no_text_is_refused_before_anything_is_taken():
    pool = make_pool(locate=lambda: 5)
    with pytest.raises(TypeError):
        pool.acquire(64)
    check_numbers(pool)


def test_a_locate_that_raises_takes_nothing():
    pool = make_pool(locate=lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        pool.acquire(64)
    check_numbers(pool)


def test_a_place_that_is_not_utf_8_is_shown_escaped():
    pool = make_pool(locate=lambda: "odd\udc80name.py:3")
    with pytest.warns(ResourceWarning, match=r"acquired at odd\\udc80name.py:3"):
        pool.acquire(64)
    check_numbers(pool)


@pytest.mark.parametrize(
    ("block", "change", "error"),
    [
        (bytearray(8), lambda o: o, ValueError),
        (bytes(4096), lambda o: o, BufferError),
        ("text", lambda o: o, TypeError),
        (bytearray(4096), lambda o: o[1:], ValueError),
        (bytearray(4096), lambda o: [*o[1:], 4], ValueError),
        (bytearray(4096), lambda o: [*o[1:], -8], ValueError),
        (bytearray(4096), lambda o: [*o[1:], 4096], ValueError),
        (bytearray(4096), lambda o: [*o[1:], 8], ValueError),
        (bytearray(4096), lambda o: [*o[1:], (1 << 63) - 8], ValueError),
        (bytearray(4096), lambda o: [*o[1:], 1 << 63], OverflowError),
        (bytearray(4096), lambda o: [*o[1:], "0"], TypeError),
        (bytearray(4096), lambda o: [*o[1:], Index(0, 1 << 40)], None),
    ],
)
def test_counters_are_bound_to_sound_offsets_only(block, change, error):
    pool = make_pool()
    pool.acquire(64).release()
    offsets = change(block_offsets(pool))
    if error is None:
        pool.bind_counters(block, offsets)
    else:
        with pytest.raises(error):
            pool.bind_counters(block, offsets)
        if isinstance(block, bytearray):
            block.append(0)  # it isn't held
    pool.acquire(64).release()
    assert (pool.stats().gets, pool.stats().hits) == (2, 1)


def test_counters_that_do_not_lie_aligned_are_refused():
    pool = make_pool()
    block = memoryview(bytearray(4096))
    refused = 0
    for start in range(8):
        try:
            pool.bind_counters(block[start:], block_offsets(pool))
        except ValueError:
            refused += 1
    assert refused == 7


def test_binding_again_lets_go_of_the_first_block():
    pool = make_pool()
    first, second = bytearray(4096), bytearray(4096)
    pool.bind_counters(first, block_offsets(pool))
    with pytest.raises(BufferError):
        first.append(0)
    pool.acquire(64).release()
    pool.bind_counters(second, block_offsets(pool))
    first.append(0)
    check_numbers(pool)
    assert pool.stats().puts == 1


@pytest.mark.parametrize("kind", KINDS)
def test_finalizers_may_use_the_pool_during_a_reclaim(kind):
    # a reclaim makes tuples, and on Python 3.11 any new tuple may start the collector
    pool = make_pool(kind)
    held = []

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            for buf in held:
                if not buf.released:
                    buf.release()
                    break
            pool.acquire(64).release()

    before = gc.get_threshold()
    _core.enter_scope("t")
    held.extend(pool.acquire(n) for n in (64, 2048, 60_000) * 20)
    gc.disable()
    try:
        for _ in range(60):
            Cycle()
        spare = [(i, i, i) for i in range(3000)]  # so that no tuple comes from a free list
        gc.set_threshold(gc.get_count()[0] + 5)
        gc.enable()
        _core.end_scope("t", pool)
    finally:
        gc.enable()
        gc.set_threshold(*before)
    del spare
    gc.collect()
    check_numbers(pool)
    fresh = [pool.acquire(64) for _ in range(200)]
    for i, buf in enumerate(fresh):
        buf[:2] = i.to_bytes(2)
    assert [int.from_bytes(buf[:2]) for buf in fresh] == list(range(200))
    for buf in fresh:
        buf.release()
    check_numbers(pool)


def test_a_warnings_hook_may_use_the_pool(monkeypatch):
    pool = make_pool()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *_a, **_k: pool.acquire(64).release())
        pool.acquire(64)
        with pool.acquire(2048) as buf:
            view = memoryview(buf)
    assert pool.stats().gets == 4
    check_numbers(pool, in_use=1)
    view.release()
    check_numbers(pool)


@pytest.mark.parametrize("kind", KINDS)
def test_reclaim_warnings_made_errors_leave_no_pool_out(kind):
    pools = Pools(Settings.read({}))
    _core.enter_scope("t")
    held = [pools.regular.acquire(64), pools.secure.acquire(64), pools.random.acquire(64)]
    with pytest.raises(ResourceWarning, match="ended holding a buffer of 64 bytes"):
        pools.end_task("t", name="shop.pay")
    assert [buf.released for buf in held] == [True] * 3
    check_numbers(getattr(pools, kind))


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_what_is_written_through_an_escaped_view_is_gone_with_the_view(kind):
    pool = make_pool(kind)
    with pytest.warns(ResourceWarning, match="outlived"), pool.acquire(2048) as buf:
        view = memoryview(buf)
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    gc.collect()  # ctypes keeps its object in a cycle
    view[:] = b"s" * 2048
    view.release()
    check_numbers(pool)
    assert b"ssss" not in ctypes.string_at(address, 2048)


def test_a_buffer_made_by_hand_is_a_released_one():
    buf = Buffer.__new__(Buffer)
    assert buf.released
    assert buf.kind is None
    assert repr(buf) == "<bufpool_workers.Buffer, released>"
    for use in (len, bytes, memoryview, Buffer.release, lambda b: b[0], lambda b: b.capacity):
        with pytest.raises(ValueError, match="buffer is released"):
            use(buf)
    with pytest.raises(TypeError, match="comes from"):
        Buffer()


def test_a_prepare_may_use_its_pool():
    seen = []
    pool = make_pool(prepare=lambda pool: seen.append(len(pool.acquire(64)[:])))
    with pytest.warns(ResourceWarning, match="dropped"):
        pool.acquire(64).release()
    assert seen == [64]
    assert pool.stats().gets == 2


def test_buffers_in_cycles_with_their_pool_end_well():
    with pytest.warns(ResourceWarning, match="dropped"):
        cycle = SimpleNamespace()
        cycle.pool = make_pool(prepare=lambda pool, cycle=cycle: cycle and pool.trim())
        cycle.buf = cycle.pool.acquire(64)
        cycle.me = cycle
        del cycle
        gc.collect()


def test_the_interpreter_ends_well_with_buffers_out():
    run_script(
        "import warnings; warnings.simplefilter('ignore')\n"
        "import bufpool_workers as bp\n"
        "held = [bp.buffer(64), bp.secure_buffer(64), bp.random_buffer(1 << 25)]\n"
        "view = memoryview(bp.buffer(64))\n"
        "class Late:\n"
        "    def __init__(self): self.me, self.buf = self, bp.buffer(4096)\n"
        "    def __del__(self): self.buf.release()\n"
        "late = Late()\n"
    )
