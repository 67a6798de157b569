"""Asynchronous exceptions at random bytecodes lose no buffer and no count.

`python -m tests.interrupts` storms for longer, and over a worker too (make storm).
"""

import ctypes
import gc
import operator
import signal
from collections import deque
from functools import partial

import pytest

from bufpool_workers import memory, testing
from bufpool_workers.memory import _core
from bufpool_workers.runtime import Job, current_runtime
from tests.interrupts import in_python, ours
from tests.interrupts.harness import Storm
from tests.memory.pools import KINDS, make_pool, run_script

INTERRUPTS = 5000
ROUNDS = 100


@pytest.fixture(autouse=True)
def own_pools():
    """The pools that a storm leaves behind are nobody else's."""
    yield
    current_runtime().stop_process()
    testing.reset()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", [ours.With, ours.Release, ours.Views, ours.Decorated])
def test_interrupted_use_loses_nothing(use, kind):
    outcome = Storm(use(kind)).run(INTERRUPTS)
    assert outcome.interrupts == INTERRUPTS
    assert len(outcome.places) > 3
    assert (outcome.lost, outcome.doubled, outcome.miscounted) == (0, 0, 0)


def test_interrupted_task_loses_nothing():
    outcome = Storm(ours.WholeTask()).run(INTERRUPTS // 5)
    assert len(outcome.places) > 50
    assert (outcome.lost, outcome.doubled, outcome.miscounted) == (0, 0, 0)
    # by type: proxies of other tests would look for what they stand for
    assert sum(type(thing) is _core.Scope for thing in gc.get_objects()) <= 1


@pytest.mark.parametrize("pool", in_python.POOLS, ids=lambda pool: pool.__name__)
def test_without_interrupts_a_pool_in_python_is_clean_however_often_it_is_audited(pool):
    storm = Storm(pool())
    assert all(storm.run(0).clean for _ in range(3))


@pytest.mark.parametrize("pool", in_python.POOLS, ids=lambda pool: pool.__name__)
def test_the_same_storm_takes_buffers_from_a_pool_in_python(pool):
    storm, lost = Storm(pool()), 0
    for _ in range(ROUNDS):  # how often it hits the gap is chance
        lost += storm.run(INTERRUPTS).lost
        if lost:
            return
    pytest.fail(f"{ROUNDS * INTERRUPTS} interrupts took no buffer from {pool.name}")


def test_pool_that_failed_to_be_made_leaves_the_process_usable():
    with pytest.raises(ValueError, match="liquid"):
        make_pool("liquid")
    with make_pool().acquire(1):
        pass


def test_task_whose_end_was_interrupted_ends_when_the_next_one_begins(process_pools):
    _core.enter_scope("interrupted")
    kept = memory.buffer(100)
    with pytest.warns(ResourceWarning, match="task interrupted ended holding"):
        current_runtime().begin_job(Job("next", "next"))
    assert kept.released
    process_pools.end_task("next", name="next")
    assert process_pools.regular.stats().in_use == 0


def test_lending_imports_nothing():
    # an import that is interrupted can leave its lock held, and other threads wait for ever
    run_script("""
import sys
import bufpool_workers as bp
bp.memory.load_keystream()
pools = bp.current_pools()
before = set(sys.modules)
for lend in (bp.buffer, bp.secure_buffer, bp.random_buffer):
    with lend(100):
        pass
assert set(sys.modules) == before, set(sys.modules) - before
""")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # shown, it runs Python code
def test_a_time_limit_that_is_due_as_a_buffer_is_dropped_strikes():
    """Nothing runs between the signal and the drop; the deallocator would lose what it raises."""

    def strike(*_):
        raise TimeoutError

    held = [make_pool("regular").acquire(64)]
    come = partial(ctypes.pythonapi.PyErr_SetInterruptEx, int(signal.SIGUSR1))
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        with pytest.raises(TimeoutError):
            deque(map(operator.call, [come, held.pop]), maxlen=0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert held == []
