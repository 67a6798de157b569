"""A child that is forked by a system call, past libc, counts in its parent's file."""

import os
import signal
import subprocess
import sys

from bufpool_workers.counters.compaction import compact
from bufpool_workers.counters.reporter import read_report
from tests.memory.test_raw_fork import CLONE, needs_clone

SCRIPT = """
import ctypes, os, signal, sys
import bufpool_workers as bp

bp.configure()
def lend(number):
    for _ in range(number):
        with bp.buffer(4096):
            pass
lend(3)
libc = ctypes.PyDLL(None)
pid = libc.syscall({clone}, signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0:
    lend(5)
    print("lent", flush=True)
    sys.stdin.read(1)  # until its parent has ended, and the test has looked
    lend(2)
    os._exit(0)
os.close(0)
signal.pause()
"""


@needs_clone
def test_its_parents_counter_file_stays_exact_and_locked_until_both_have_ended(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(clone=CLONE)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout.readline() == b"lent\n"
        (file,) = tmp_path.glob("counter_*.db")
        assert read_report(tmp_path).total.gets == 8

        parent.send_signal(signal.SIGKILL)
        parent.wait()
        compact(tmp_path)
        assert file.exists()  # the child may still count in it
        report = read_report(tmp_path)
        assert report.total.gets == 8
        assert not report.processes  # what only the living have went with the parent

        parent.stdin.close()
        assert parent.stdout.read() == b""  # the child has ended
    compact(tmp_path)
    assert not file.exists()
    assert read_report(tmp_path).total.gets == 10
