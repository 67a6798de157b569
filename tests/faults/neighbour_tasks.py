"""Tasks that behave badly towards the pools in their process, and keep the truth all the same."""

import atexit
import os
import subprocess
import sys
from pathlib import Path

from celery import shared_task
from fault_app import note, use

import bufpool_workers as bp

_views = []


@shared_task
def fork(ending):
    """Use buffers in a fork of this process, which then ends in that manner; gives its status."""
    pid = os.fork()
    if pid == 0:
        use(2)
        note(2)
        _end(ending)
    use(1)
    note(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _end(ending):
    if ending == "at once":
        os._exit(0)
    if ending == "after its exit handlers":
        atexit._run_exitfuncs()
        os._exit(0)
    sys.exit(0)  # through Celery and billiard, as in the child of a pool


@shared_task
def run_program():
    """Run another Python that uses buffers, without an app."""
    code = "import bufpool_workers as bp\nwith bp.buffer(4096) as b: b[0] = 1"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


@shared_task
def close_descriptors(gate):
    """Close all that the process has open, and go on, until the gate is opened and beyond it."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    use(2)
    note(2)
    Path(gate).read_bytes()
    use(3)
    note(3)


@shared_task
def keep_views(count, nbytes):
    """Keep a view of each of so many buffers for ever; gives what the pool then says of itself."""
    refusal, before = None, len(_views)
    try:
        for _ in range(count):
            with bp.buffer(nbytes) as buffer:
                _views.append(memoryview(buffer))
    except bp.LimitExceeded as refused:
        refusal = str(refused)
    regular = bp.stats().regular
    numbers = ("held_bytes", "escapes", "limit_hits", "in_use")
    return {
        "kept": len(_views) - before,
        "refusal": refusal,
        **{name: getattr(regular, name) for name in numbers},
    }
