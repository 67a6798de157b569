"""The demo's ends: whole, interrupted, and with its worker or broker gone; nothing stays behind."""

import re
import signal
import sys

import psutil
import pytest

from tests.support.checkout import CHECKOUT
from tests.support.processes import LocalProcess

_AT_WORK = r"^digest of a file: "
# SIGHUP comes when a task is sent and its caller has no result yet
_STRUCK_WHILE_SENDING = """
import os, runpy, signal
from celery.canvas import Signature

send = Signature.apply_async

def struck(*args, **kwargs):
    result = send(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGHUP)
    return result

Signature.apply_async = struck
runpy.run_module("tasks.demo", run_name="__main__")
"""


@pytest.fixture
def demo(tmp_path, request):
    """Run the demo, or a program in its place, with its temporary files in `tmp_path / "files"`."""
    files = tmp_path / "files"
    files.mkdir()
    process = LocalProcess(
        [sys.executable, "-u", *getattr(request, "param", ["-m", "tasks.demo"])],
        log=tmp_path / "log",
        cwd=CHECKOUT,
        env={"TMPDIR": str(files), "BUFPOOL_BROKER_URL": ""},
    )
    yield process
    process.close()
    print(process.log())  # noqa: T201 (pytest shows it when the test failed)


def started_by(demo):
    """Return the demo's own processes by name: the broker and the worker."""
    children = psutil.Process(demo.pid).children()
    return {"worker" if "celery" in child.cmdline() else "broker": child for child in children}


@pytest.fixture
def family(demo, tmp_path):
    """Yield the demo's processes, at work; at the end check that no process or file is left."""
    demo.wait_for_log(_AT_WORK, timeout_seconds=60)
    family = psutil.Process(demo.pid).children(recursive=True)
    assert len(family) >= 4  # a broker, a worker, its two children
    yield family
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        process.kill()
    assert alive == []
    assert list((tmp_path / "files").iterdir()) == []


@pytest.mark.long
@pytest.mark.timeout(300)  # the whole demo, perhaps on a busy machine
@pytest.mark.usefixtures("family")
def test_it_ends_well_with_every_result_checked(demo):
    assert demo.wait(timeout_seconds=200) == 0
    assert re.search(r"^1200 tasks, 0 wrong; 14\d\d buffers, \S+ % from", demo.log(), re.MULTILINE)
    assert len(re.findall(r"^child \d: warm before", demo.log(), re.MULTILINE)) == 2


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_it_with_its_processes_and_files(demo, number, status):
    demo.send_signal(number)
    assert demo.wait() == status
    assert "Traceback" not in demo.log()


@pytest.mark.parametrize("demo", [["-c", _STRUCK_WHILE_SENDING]], indirect=True, ids=["sending"])
def test_a_signal_while_it_sends_ends_it_without_a_traceback(demo):
    assert demo.wait(timeout_seconds=60) == 129
    assert "Traceback" not in demo.log()


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize("name", ["broker", "worker"])
def test_a_killed_process_is_named_with_the_end_of_its_log(demo, name):
    started_by(demo)[name].kill()
    assert demo.wait(timeout_seconds=60) == 1
    log = demo.log()
    assert f"the demo could not go on: {name} ended with -9:" in log
    assert "Traceback" not in log
