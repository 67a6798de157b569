"""What is imported late is broken by no signal and by no fork."""

import subprocess
import sys

import pytest

LATE = {
    "counters": "_loading.load('bufpool_workers.counters.counterfile')",
    "keys": "_loading.load('bufpool_workers.sealing.keyring')",
    "endpoint": "_loading.load('bufpool_workers.metrics.server')",
    "malloc": "_loading.load('bufpool_workers.runtime.malloc')",
    "keystream": "memory.load_keystream()",
    "single use": "_loading.load('bufpool_workers.celery.single_use')",
    "everything": "current_runtime().load_late_imports()",
}
BEGIN = """
import os, signal, sys, threading, time
from bufpool_workers import _loading, memory
from bufpool_workers.runtime import current_runtime
def load():
    {load}
"""
STRIKE = """
class Strike(Exception):
    pass
def strike(*_):
    raise Strike
signal.signal(signal.SIGALRM, strike)
"""
INTERRUPTED = """
try:
    signal.setitimer(signal.ITIMER_REAL, {seconds})
    load()
    signal.setitimer(signal.ITIMER_REAL, 0)
except Strike:
    pass
other = threading.Thread(target=load, daemon=True)
other.start()
other.join(30)
assert not other.is_alive(), "the import's lock is held for ever"
load()
"""
FORKED = """
loader = threading.Thread(target=load)
loader.start()
children = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # kills a child that waits for ever
        try:
            load()
        except BaseException:
            os._exit(1)
        os._exit(0)
    children.append(pid)
loader.join()
for pid in children:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status
"""


def run(script, **values):
    command = [sys.executable, "-c", script.format(**values)]
    done = subprocess.run(command, timeout=100, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("load", LATE.values(), ids=LATE)
def test_interrupted_import_is_retried(load):
    for seconds in (0.0005, 0.005, 0.02):
        run(BEGIN + STRIKE + INTERRUPTED, load=load, seconds=seconds)


AT_A_LOCK = """
restore = threading.Condition._acquire_restore
struck = threading.Lock()
struck.acquire()
def strike_first(condition, state):
    threading.Condition._acquire_restore = restore
    struck.release()
    signal.raise_signal(signal.SIGALRM)
threading.Condition._acquire_restore = strike_first
try:
    _loading.run(struck.acquire)
except Strike:
    print("Strike")
load()
"""


def test_what_a_handler_raises_as_a_lock_is_taken_back_is_raised():
    assert run(BEGIN + STRIKE + AT_A_LOCK, load=LATE["malloc"]) == "Strike\n"


EXIT = """
import os, signal, threading
from bufpool_workers import _loading
begun = threading.Event()
def work():
    begun.set()
    if {interrupts}:
        os.kill(os.getpid(), signal.SIGALRM)
    threading.main_thread().join()  # it ends where the exit begins
    os.write(1, b"ended")
def load():
    _loading.run(work)
"""


def test_an_exit_waits_for_an_import_that_was_interrupted():
    stdout = run(
        EXIT
        + STRIKE
        + """
try:
    load()
except Strike:
    pass
""",
        interrupts=True,
    )
    assert stdout == "ended"


def test_an_exit_waits_for_an_import_that_a_daemon_asked_for():
    stdout = run(
        EXIT
        + """
threading.Thread(target=load, daemon=True).start()
begun.wait()
""",
        interrupts=False,
    )
    assert stdout == "ended"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside a thread
@pytest.mark.parametrize("load", LATE.values(), ids=LATE)
def test_the_child_of_a_fork_during_an_import_goes_on(load):
    run(BEGIN + FORKED, load=load)


def test_no_thread_is_left_that_a_fork_would_copy_the_locks_of():
    run("""
import threading, time
from bufpool_workers import _loading
class Last:
    def __del__(self):
        time.sleep(0.2)
        ended.append(True)
ended, local = [], threading.local()
def work():
    local.last = Last()  # goes with the thread
_loading.run(work)
assert ended
""")


@pytest.mark.parametrize("base", ["Exception", "RuntimeError"])
def test_a_signal_as_the_thread_starts_raises_what_its_handler_raised(base):
    script = """
import threading
from bufpool_workers import _loading
names = ("_start_joinable_thread", "_start_new_thread")
name = next(name for name in names if hasattr(threading, name))
begin, begun = getattr(threading, name), threading.Event()
class Strike({base}):
    pass
def interrupted(*args, **kwargs):
    begin(*args, **kwargs)
    begun.wait()
    raise Strike
setattr(threading, name, interrupted)
try:
    _loading.run(begun.set)
except Strike:
    pass
else:
    raise SystemExit("not interrupted")
"""
    run(script, base=base)


@pytest.mark.parametrize("kind", ["buffer", "secure_buffer", "random_buffer"])
def test_the_first_buffer_may_be_an_exit_handlers(kind):
    script = """
import atexit
import bufpool_workers as bp
def at_exit():
    with bp.{kind}(64) as buf:
        print(len(buf))
atexit.register(at_exit)
"""
    assert run(script, kind=kind) == "64\n"  # what an exit handler raises changes no exit status


def test_an_import_that_fails_raises_what_it_raised():
    run("""
from bufpool_workers import _loading
try:
    _loading.load("bufpool_workers.no_such_module")
except ModuleNotFoundError as error:
    assert error.name == "bufpool_workers.no_such_module"
else:
    raise SystemExit("loaded")
""")
