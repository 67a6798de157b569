"""Asynchronous exceptions at random bytecodes lose no buffer and no count.

`python -m tests.interrupts` storms for longer, and over a worker too (make storm).
"""

import ctypes
import gc
import operator
import signal
import subprocess
import sys
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


def test_a_time_limit_that_is_due_as_a_buffer_is_dropped_strikes():
    """Nothing runs between the signal and the drop; the deallocator would lose what it raises."""

    def strike(*_):
        raise TimeoutError

    held = [make_pool("regular").acquire(64)]
    come = partial(ctypes.pythonapi.PyErr_SetInterruptEx, int(signal.SIGUSR1))
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        with (
            pytest.warns(ResourceWarning, match="dropped"),  # told before or after it
            pytest.raises(TimeoutError),
        ):
            deque(map(operator.call, [come, held.pop]), maxlen=0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert held == []


STORM = """
import random, signal, threading
from bufpool_workers.memory import BufferPool, load_keystream

class TimeLimit(Exception):
    pass

struck = raised = 0

def strike(number, frame):
    global struck
    struck += 1
    raise TimeLimit

def misuse(pool):
    pool.acquire(64)
    with pool.acquire(64) as buffer:
        view = buffer[:]

def until_struck(pool, seconds):
    before = struck
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while struck == before:
        misuse(pool)

signal.signal(signal.SIGALRM, strike)
threading.Thread(target=threading.Event().wait, daemon=True).start()    # it may get the signal
load_keystream()       # else imported at the first use, by a thread
dice = random.Random(1)
for kind in ("regular", "secure", "random"):
    pool = BufferPool(kind, size_classes=(64,), max_bytes=1 << 20, max_buffer_bytes=64)
    for _ in range(300):
        try:
            until_struck(pool, dice.uniform(1e-6, 1e-3))
        except TimeLimit:
            raised += 1
    assert pool.stats().in_use == 0
print(struck, raised)
"""


@pytest.mark.parametrize("action", ["ignore", "default", "always"])
def test_no_time_limit_is_lost_while_misuse_is_told(action):
    """Each is raised once, wherever it strikes: as buffers are dropped, and their log written."""
    done = subprocess.run(
        [sys.executable, "-W", f"{action}::ResourceWarning", "-c", STORM],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout == "900 900\n"


WHILE_TOLD = """
import os, signal, sys, threading, warnings
import bufpool_workers as bp

struck = []
signal.signal(signal.SIGALRM, lambda *_: struck.append(1))

def settle():
    pass       # as it begins, the interpreter tells what is noted, and runs handlers

def fork():
    pid = os.fork()
    if pid == 0:       # of a thread, which is the child's only one
        signal.raise_signal(signal.SIGALRM)
        os._exit(len(struck))
    children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

def show(*_args, **_kwargs):
    signal.raise_signal(signal.SIGALRM)
    signal.raise_signal(signal.SIGUSR1)
    assert not struck, "it did not wait"
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    if len(children) == 2:
        signal.raise_signal(signal.SIGINT)

children = []
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
warnings.simplefilter("always")
warnings.filterwarnings("ignore", category=DeprecationWarning)     # a fork beside threads
warnings.showwarning = show
bp.buffer(64)
for _ in range(10):
    settle()
assert struck == [1], struck
assert children == [1], children
struck.clear()
try:
    with bp.buffer(64) as buffer:
        view = buffer[:]
except KeyboardInterrupt:
    print("ended")
settle()
assert struck == [1], struck
assert children == [1, 1], children
"""


def test_while_misuse_is_told_a_child_gets_its_signals_and_ctrl_c_ends_the_program():
    assert run_script("import logging; logging.disable()\n" + WHILE_TOLD) == "ended\n"
