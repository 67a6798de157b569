"""The log lines of misused buffers."""

import logging
import re
import subprocess
import sys
import threading

import pytest

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.memory import _core
from bufpool_workers.runtime import Job, current_runtime, misuse
from tests.support.forked import run_forked

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(misuse, "time", made)
    return made


@pytest.fixture
def lines(caplog):
    """The lines of misuse, as they are written."""
    testing.reset()
    caplog.set_level(logging.INFO)
    yield lambda: [text for text in caplog.messages if re.match("bufpool: [a-z_]+: ", text)]
    testing.reset()


def escape(kind="regular"):
    with getattr(bp.current_pools(), kind).acquire(4096) as buffer:
        view = buffer[:]
    view.release()


def drop():
    bp.buffer(100)


def run_job(work, name="shop.scale"):
    job = Job(id="1", name=name, function=work)
    current_runtime().begin_job(job)
    work()
    current_runtime().end_job(job)


def test_first_misuse_is_logged_at_once_with_task_place_and_remedy(lines):
    run_job(escape)
    (line,) = lines()
    assert line.startswith("bufpool: escapes: views that outlived their buffer (regular pool): 1 ")
    assert re.search(rf"in task shop\.scale, at {re.escape(__file__)}:\d+, of 4 KiB; copy", line)


def test_later_ones_of_a_task_are_counted_for_ten_minutes_and_logged_together(lines, clock):
    for _ in range(5):
        run_job(escape)
    assert len(lines()) == 1
    clock.seconds += misuse.SILENT_SECONDS - 1
    run_job(lambda: None)
    assert len(lines()) == 1
    clock.seconds += 1
    run_job(lambda: None)
    assert len(lines()) == 2
    assert "(regular pool): 4 in the last 10 min 0 s in task shop.scale, the last at" in lines()[1]
    clock.seconds += misuse.SILENT_SECONDS
    run_job(lambda: None)
    assert len(lines()) == 2


@pytest.mark.parametrize("kind", ["secure", "random"])
def test_each_pool_condition_and_task_has_a_line_of_its_own(lines, kind):
    for _ in range(3):
        run_job(escape)
        run_job(escape, name="shop.other")
        run_job(lambda: escape(kind))
        run_job(drop)
    assert len(lines()) == 4


def test_dropped_buffer_is_logged_where_it_was_dropped_before_its_job_ends(lines):
    run_job(drop)
    (line,) = lines()
    at = drop.__code__.co_firstlineno
    assert (
        "bufpool: reclaims: buffers dropped, or still held when their task ended (regular" in line
    )
    assert f"in task shop.scale, at {__file__}:{at + 1}" in line


def test_buffer_dropped_without_a_job_is_logged_by_the_running_program(lines):
    drop()
    assert len(lines()) == 1
    assert "in task" not in lines()[0]


def test_buffer_that_a_thread_drops_is_logged(lines):
    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
    run_job(lambda: None)
    assert len(lines()) == 1


def test_buffers_that_a_task_holds_at_its_end_are_logged_with_its_function(lines):
    held = []

    def keep():
        held.extend([bp.buffer(10), bp.secure_buffer(10)])
        held.append(held[1][:])

    run_job(keep)
    assert [re.match(r"bufpool: (\w+): .*\((\w+) pool", line).groups() for line in lines()] == [
        ("reclaims", "regular"),
        ("reclaims", "secure"),
        ("escapes", "secure"),
    ]
    assert all(f"{__file__}:{keep.__code__.co_firstlineno}" in line for line in lines())


def test_exception_while_a_dropped_buffer_is_reported_is_not_lost(lines, monkeypatch):
    """As a time limit is, which a signal handler raises: a deallocator would swallow it."""

    def interrupted(*_):
        raise TimeoutError("soft time limit")

    monkeypatch.setattr(current_runtime(), "note_misuse", interrupted)
    with pytest.raises(TimeoutError):
        run_job(drop)


def test_a_forked_child_logs_its_own(lines, capfd):
    escape()

    def child():
        escape()
        assert len(lines()) == 2

    assert run_forked(child) == 0


def test_names_that_a_program_makes_up_take_no_memory_for_ever(lines, monkeypatch):
    monkeypatch.setattr(misuse, "_MOST_LINES", 10)
    for number in range(30):
        run_job(escape, name=f"shop.made_up_{number}")
    assert len(lines()) == 11
    assert "in task" not in lines()[-1]


def test_a_name_that_is_not_utf_8_is_escaped(lines):
    _core.note_misuse("escapes", "regular", 10, place="odd\udc80name.py:3")
    assert r"odd\udc80name.py:3" in lines()[0]


def test_pools_of_a_program_without_a_runtime_log_too():
    script = (
        "from bufpool_workers.memory import BufferPool\n"
        "pool = BufferPool('regular', size_classes=(4096,), max_bytes=1 << 20,\n"
        "                  max_buffer_bytes=1 << 20)\n"
        "pool.acquire(10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "bufpool: reclaims: regular pool: 1, at <string>:4, of 10 bytes\n"
