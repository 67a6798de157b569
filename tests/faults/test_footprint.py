"""The footprint sees what is left behind; else no test of a fault could fail for it."""

import sys
import uuid

import pytest

from tests.faults.footprint import SHM, Footprint
from tests.support.processes import LocalProcess

HOLD = """
import ctypes, mmap, os, signal, socket, sys
ready, shm, *more = sys.argv[1:]
kept = [os.open(shm, os.O_RDWR | os.O_CREAT, 0o600)]
if more:
    kept += [os.open("/dev/null", os.O_RDONLY), socket.create_server(("127.0.0.1", 0))]
    memory = mmap.mmap(-1, 1 << 16)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mlock(ctypes.c_void_p(start), 1 << 16) == 0
    if os.fork() == 0:
        signal.pause()
os.close(os.open(ready, os.O_CREAT))
signal.pause()
"""


@pytest.fixture
def shared(tmp_path):
    path = SHM / f"test-footprint-{uuid.uuid4().hex}"
    yield path
    path.unlink(missing_ok=True)


def look(tmp_path, *arguments):
    ready = tmp_path / "ready"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-c", HOLD, str(ready), *map(str, arguments)]
    with LocalProcess(command, log=tmp_path / "log") as process:
        process.wait_until(ready.exists, what="its readiness")
        return Footprint.of(process, tmp_path)


def test_the_same_again_is_nothing_more(tmp_path, shared):
    first = look(tmp_path, shared)
    assert look(tmp_path, shared).beyond(first) == {}


def test_everything_more_is_named(tmp_path, shared):
    before = look(tmp_path, shared)
    for name in ("counter_1.db", "counter_bufpool-12345678-1-99-12345678.db", ".left.tmp"):
        (tmp_path / name).touch()
    after = look(tmp_path, shared, "more")
    assert after.beyond(before) == {
        "processes": "2, were 1",
        "locked_kib": "64, were 0",
        "listening": "2, were 0",
        "files_of_the_dead": "2, were 0",
        "temporary_files": "1, were 0",
        "descriptors": {"file": 1, "socket": 1},
    }


def test_unused_shared_memory_is_named(tmp_path, shared):
    before = look(tmp_path, shared)
    other = shared.with_name(f"{shared.name}-other")
    try:
        assert look(tmp_path, other).beyond(before) == {"shared memory": [shared.name]}
    finally:
        other.unlink()
