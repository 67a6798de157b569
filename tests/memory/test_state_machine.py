"""The core against a model in Python: in any order, numbers are exact and nothing is shared."""

import mmap
import os
import warnings

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from bufpool_workers import BufpoolError, LimitExceeded
from bufpool_workers.memory import _core
from bufpool_workers.units import size_label
from tests.memory.pools import KINDS, SIZES, make_pool

CAP = 256 * 1024
LARGEST_BUFFER = 200_000
# make model: as many steps in all, at least; else one short run
LEAST_STEPS = int(os.environ.get("BUFPOOL_MODEL_STEPS", "0"))
EXAMPLES, STEPS = (500, 200) if LEAST_STEPS else (60, 60)


class Lent:
    """What the model knows of one buffer."""

    def __init__(self, buffer, nbytes, mark, scope, *, goes_back_to):
        self.buffer, self.nbytes, self.mark, self.scope = buffer, nbytes, mark, scope
        self.goes_back_to = goes_back_to  # its class; None when it was mapped for one use
        self.capacity = buffer.capacity
        self.views = []
        self.is_out = True

    def write(self):
        view = memoryview(self.buffer)
        view[:] = bytes([self.mark]) * self.nbytes
        view.release()


class PoolMachine(RuleBasedStateMachine):
    lent = Bundle("lent")
    steps = 0

    @initialize(
        target=lent,
        kind=st.sampled_from(KINDS),
        lend=st.booleans(),
        warm=st.dictionaries(st.sampled_from(SIZES), st.integers(0, 1)),
    )
    def start(self, kind, lend, warm):
        self.kind, self.lends = kind, lend
        self.pool = make_pool(
            kind,
            max_bytes=CAP,
            max_buffer_bytes=LARGEST_BUFFER,
            lend_at_limit=lend,
            warm=warm,
        )
        self.all = []
        self.scopes = []
        self.gets = self.hits = self.escapes = self.reclaims = self.ended = self.discards = 0
        self.limit_hits = self.bytes_allocated = self.bytes_reused = self.loose = 0
        self.idle = dict.fromkeys(SIZES, 0)
        self.mark = 0
        self.take(1)
        return self.all[-1]

    def take(self, nbytes):
        size = next((size for size in SIZES if size >= nbytes), None)
        is_hit = self.idle.get(size, 0) > 0
        is_full = not is_hit and self.is_full(nbytes, size)
        self.limit_hits += is_full
        if is_full and not self.lends:
            with pytest.raises(LimitExceeded):
                self.pool.acquire(nbytes)
            return
        buffer = self.pool.acquire(nbytes)
        self.gets += 1
        self.hits += is_hit
        if is_hit:
            self.bytes_reused += size
            self.idle[size] -= 1
        elif is_full or size is None:
            self.bytes_allocated += buffer.capacity
            self.loose += buffer.capacity
        else:
            self.note_idle(size)
            self.bytes_allocated += size  # the one of the slab that is lent already
        self.remember(buffer, nbytes, goes_back_to=None if is_full else size)

    def is_full(self, nbytes, size):
        room = CAP - self.pool.stats().held_bytes
        if not self.lends:
            room -= self.loose
        if size is None:
            return not self.lends and room < nbytes
        return (room - room % mmap.PAGESIZE if self.kind == "regular" else room) < size

    def note_idle(self, size):
        """Count what has been mapped: how much of a class at once is for the pool to choose."""
        idle = self.pool.stats().sizes[size_label(size)].idle
        self.bytes_allocated += (idle - self.idle[size]) * size
        self.idle[size] = idle

    def remember(self, buffer, nbytes, *, goes_back_to):
        self.mark = self.mark % 250 + 1
        found = bytes(buffer)
        if self.kind == "secure":
            assert not any(found)
        if self.kind == "random" and nbytes >= 64:
            assert len(set(found[:64])) > 8
            assert len(set(found[-64:])) > 8
        scope = self.scopes[-1] if self.scopes else None
        self.all.append(Lent(buffer, nbytes, self.mark, scope, goes_back_to=goes_back_to))
        self.all[-1].write()

    def end(self, lent, *, reclaimed=False):
        lent.is_out = False
        self.reclaims += reclaimed
        if lent.views:
            self.escapes += 1
        else:
            self.settle(lent)

    def settle(self, lent):
        self.ended += 1
        if lent.goes_back_to is None:
            self.discards += 1
            self.loose -= lent.capacity
        else:
            self.idle[lent.goes_back_to] += 1

    @rule(
        target=lent,
        nbytes=st.one_of(st.integers(0, 70_000), st.sampled_from((*SIZES, LARGEST_BUFFER))),
    )
    def acquire(self, nbytes):
        self.take(nbytes)
        return self.all[-1]

    @rule(nbytes=st.integers(LARGEST_BUFFER + 1, 1 << 70))
    def ask_too_much(self, nbytes):
        with pytest.raises(LimitExceeded):
            self.pool.acquire(nbytes)

    @rule(lent=lent)
    def view(self, lent):
        if lent.is_out:
            lent.views.append(memoryview(lent.buffer))

    @rule(lent=lent)
    def drop_view(self, lent):
        if lent.views:
            view = lent.views.pop()
            if not lent.is_out and not lent.views:
                self.settle(lent)
            view.release()

    @rule(lent=lent)
    def release(self, lent):
        if not lent.is_out:
            with pytest.raises(ValueError, match="released"):
                lent.buffer.release()
        elif lent.views:
            with pytest.raises(BufferError):
                lent.buffer.release()
        else:
            self.end(lent)
            lent.buffer.release()

    @rule(lent=lent)
    def leave_with(self, lent):
        if lent.is_out:
            self.end(lent)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                lent.buffer.__exit__(None, None, None)
            assert [w.category for w in caught] == [ResourceWarning] * bool(lent.views)
        else:
            lent.buffer.__exit__(None, None, None)

    @rule(lent=lent)
    def drop(self, lent):
        if lent.buffer is not None and not lent.views:
            if lent.is_out:
                self.end(lent, reclaimed=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lent.buffer = None
            lent.buffer = self.stand_in()

    def stand_in(self):
        released = make_pool().acquire(1)
        released.release()
        return released

    @rule()
    def enter_scope(self):
        self.scopes.append(f"task{len(self.scopes)}")
        _core.enter_scope(self.scopes[-1])

    @rule(data=st.data())
    def leave_scope(self, data):
        if not self.scopes:
            return
        name = data.draw(st.sampled_from(self.scopes))
        ended = self.scopes[self.scopes.index(name) :]
        del self.scopes[self.scopes.index(name) :]
        held = [lent for lent in self.all if lent.is_out and lent.scope in ended]
        taken = _core.end_scope(name, self.pool)
        assert sorted((n, viewed) for _, n, viewed, _ in taken) == sorted(
            (lent.nbytes, bool(lent.views)) for lent in held
        )
        for lent in held:
            self.end(lent, reclaimed=True)
            lent.scope = None

    @rule(all_idle=st.booleans())
    def trim(self, all_idle):
        before = self.pool.stats().held_bytes
        assert self.pool.trim(all_idle=all_idle) == before - self.pool.stats().held_bytes
        for size in SIZES:
            idle = self.pool.stats().sizes[size_label(size)].idle
            assert idle <= self.idle[size]
            self.idle[size] = idle

    @rule()
    def warm(self):
        try:
            warmth = self.pool.warm()
        except BufpoolError:
            return
        finally:
            for size in self.pool.warm_levels:
                self.note_idle(size)
        assert warmth.complete
        assert warmth.buffers == sum(self.pool.warm_levels.values())

    @invariant()
    def numbers_are_exact(self):
        if not hasattr(self, "pool"):
            return
        PoolMachine.steps += 1
        stats = self.pool.stats()
        assert stats.gets == stats.hits + stats.misses == self.gets
        assert (stats.hits, stats.limit_hits) == (self.hits, self.limit_hits)
        assert (stats.puts, stats.discards) == (self.ended, self.discards)
        assert stats.bytes_allocated == self.bytes_allocated
        assert stats.bytes_reused == self.bytes_reused
        assert [stats.sizes[size_label(size)].idle for size in SIZES] == [*self.idle.values()]
        assert stats.in_use == self.gets - self.ended
        assert (stats.escapes, stats.reclaims) == (self.escapes, self.reclaims)
        assert stats.held_bytes <= CAP

    @invariant()
    def nothing_is_shared(self):
        if not hasattr(self, "pool"):
            return
        for lent in self.all:
            if lent.is_out:
                assert bytes(lent.buffer) == bytes([lent.mark]) * lent.nbytes
            elif lent.views and self.kind == "regular":
                assert bytes(lent.views[0]) == bytes([lent.mark]) * lent.nbytes
            elif lent.views and self.kind == "secure":
                assert not any(lent.views[0])
            elif lent.views and lent.nbytes >= 16:
                assert bytes(lent.views[0]) != bytes([lent.mark]) * lent.nbytes

    def teardown(self):
        if not hasattr(self, "pool"):
            return
        for lent in self.all:
            while lent.views:
                self.drop_view(lent)
            if lent.is_out:
                self.release(lent)
        while self.scopes:
            _core.end_scope(self.scopes.pop(), self.pool)
        stats = self.pool.stats()
        assert (stats.in_use, stats.gets) == (0, stats.puts)
        self.pool.close()
        assert self.pool.stats().held_bytes == 0
        assert self.pool.stats().idle == 0


def test_any_order_of_operations_keeps_the_promises():
    PoolMachine.steps = runs = 0
    while not runs or PoolMachine.steps < LEAST_STEPS:
        run_state_machine_as_test(
            PoolMachine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                suppress_health_check=list(HealthCheck),
            ),
        )
        runs += 1
        if LEAST_STEPS:
            print(f"{PoolMachine.steps} steps in {runs * EXAMPLES} sequences", flush=True)  # noqa: T201 - figures
    assert PoolMachine.steps > EXAMPLES
