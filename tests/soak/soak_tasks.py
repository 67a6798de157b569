"""The soak's tasks: each uses pools in its own way and keeps the truth about it."""

import functools
import hashlib
import os
import random
import time
from collections import deque
from pathlib import Path

import numpy as np
from celery import current_task, shared_task, signals
from celery.exceptions import SoftTimeLimitExceeded

import bufpool_workers as bp
from bufpool_workers import KiB
from tests.soak.expected import ExpectedCounts, Row
from tests.soak.task_log import DONE, FAILED, LIMITED, SHARED, STARTED, note

FOLDER = Path(os.environ["SOAK_FOLDER"])
LEDGER = FOLDER / "task_log"
LEND = {"regular": bp.buffer, "secure": bp.secure_buffer, "random": bp.random_buffer}
KEPT_VIEWS = 8
CUT_SHORT = 16 * KiB  # a class of its own: an exception may come between a note and its act
_truth: ExpectedCounts | None = None
_views: deque[tuple[Row, memoryview]] = deque()
_held: list[tuple[Row, bp.Buffer]] = []


def truth() -> ExpectedCounts:
    """This process's truth; it counts if the process has a counter file."""
    global _truth  # noqa: PLW0603 - a process has one
    if _truth is None or _truth.pid != os.getpid():
        _views.clear()
        _held.clear()
        _truth = ExpectedCounts(FOLDER / "truth")
        look_for_file()
    return _truth


@signals.task_postrun.connect
def look_for_file(**_: object) -> None:
    """See whether there is one by now: the plugin's own handler, which comes first, may make it."""
    if _truth is not None and _truth.pid == os.getpid() and not _truth.is_counted:
        metrics = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        _truth.is_counted = any(metrics.glob(f"counter_bufpool-*-{os.getpid()}-*.db"))


class Lent:
    """A buffer filled with a pattern, whose lending and end are noted."""

    def __init__(self, kind, nbytes):
        self.row = truth().row(kind, nbytes)
        self.row.begin("gets")
        self.buffer = LEND[kind](nbytes)
        self.row.done("gets")
        self.pattern = os.urandom(16) * (nbytes // 16)
        with memoryview(self.buffer) as view:
            view[: len(self.pattern)] = self.pattern

    def check(self):
        """Look whether anybody else wrote to it."""
        with memoryview(self.buffer) as view:
            if view[: len(self.pattern)] != self.pattern:
                note(LEDGER, SHARED, current_task.request.id)

    def give_back(self):
        self.check()
        self.row.begin("puts")
        self.buffer.release()
        self.row.done("puts")


def task(function):
    """Make a task that notes its begin, and its end unless it notes that itself."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        task_id = current_task.request.id
        note(LEDGER, STARTED, task_id)
        end = function(*args, **kwargs) or DONE
        note(LEDGER, end, task_id)
        if end == FAILED:
            raise LookupError("on purpose")

    return shared_task(call)


@task
def digest(sizes):
    lent = [Lent("regular", nbytes) for nbytes in sizes]
    for one in lent:
        hashlib.sha256(one.buffer).digest()
    for one in lent:
        one.give_back()


@task
def secret(kind, nbytes):
    one = Lent(kind, nbytes)
    hashlib.sha256(one.buffer).digest()
    one.give_back()


@task
def scale(nbytes):
    raw, scaled = Lent("regular", nbytes), Lent("regular", 4 * nbytes)
    pixels = np.frombuffer(raw.buffer, np.uint8)
    result = np.frombuffer(scaled.buffer, np.float32)
    np.multiply(pixels, np.float32(1 / 255), out=result)
    scaled.pattern = result.tobytes()
    del pixels, result
    raw.give_back()
    scaled.give_back()


@task
def keep_view(nbytes):
    """Escape: the view lives on until some later task of this process."""
    one = Lent("regular", nbytes)
    view = memoryview(one.buffer)
    one.row.begin("escapes")
    with one.buffer:
        pass
    one.row.done("escapes")
    _views.append((one.row, view))
    if len(_views) > KEPT_VIEWS:
        row, oldest = _views.popleft()
        row.begin("puts")
        oldest.release()
        row.done("puts")


@task
def hold(nbytes):
    """End with a buffer in hand, which is taken back then."""
    one = Lent("regular", nbytes)
    one.row.begin("reclaims", "puts")
    _held.append((one.row, one.buffer))


@signals.task_postrun.connect(weak=False)
def _note_reclaims(**_):
    # connected after the plugin's own handler, so called after it
    while _held:
        row, buffer = _held.pop()
        if buffer.released:
            row.done("reclaims", "puts")


@task
def fail(nbytes):
    one = Lent("regular", nbytes)
    one.give_back()
    return FAILED


@task
def limited():
    """Use buffers until the soft time limit, which comes at any moment.

    In a worker that is stopping none comes.
    """
    row, end = truth().row("regular", CUT_SHORT), time.monotonic() + 20
    while time.monotonic() < end:
        row.begin("gets")
        buffer = bp.buffer(CUT_SHORT)
        row.done("gets")
        buffer[0] = 1
        row.begin("puts")
        buffer.release()
        row.done("puts")


@signals.task_failure.connect(weak=False)
def _note_limit(task_id, exception, **_):
    # not in the task: the limit may strike before its first line, or as it notes
    if isinstance(exception, SoftTimeLimitExceeded):
        note(LEDGER, LIMITED, task_id)


@task
def linger(seconds):
    """Hold a buffer for a while, for whoever wants to kill or revoke it meanwhile."""
    one = Lent("regular", CUT_SHORT)
    time.sleep(seconds * random.random())
    one.give_back()


def _noted(function):
    """Note the buffer that `sealed` takes for the argument of the inner function."""

    @functools.wraps(function)
    def call(nbytes, **kwargs):
        row = truth().row("secure", nbytes)
        row.begin("gets")
        function(row, **kwargs)
        row.done("puts")

    return call


@task
@_noted
@bp.sealed("password")
def login(row, *, password):
    row.done("gets")
    hashlib.sha256(password).digest()
    row.begin("puts")
