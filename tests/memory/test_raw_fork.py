"""The child of a fork by system call, past libc: no handler of a fork has run in it."""

import platform
import sys

import pytest

from tests.support.lock_limit import real_mlock, run_limited

CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
LOCKED = 1 << 20

needs_clone = pytest.mark.skipif(
    sys.platform != "linux" or CLONE is None, reason="the number of clone(2) is known for Linux"
)

each_level = pytest.mark.parametrize(
    "level", ["memfd", "mlock", pytest.param("plain", marks=real_mlock)]
)

START = """
import ctypes, faulthandler, mmap, os, resource, signal
from bufpool_workers.memory import BufferPool, _keystream, _mapping
_keystream.load_keystream()
pool = BufferPool("{kind}", size_classes=(2048,), max_bytes=1 << 20, max_buffer_bytes=2048)
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
if "{level}" == "mlock":  # no descriptor is left for memfd_secret(2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
def draw():
    with pool.acquire(64) as buffer:
        return bytes(buffer)
with pool.acquire(64) as buffer:
    buffer[:] = b"the parent's one" * 4
[draw() for _ in range(3)]
level = _mapping.secure_level()
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
shared = mmap.mmap(-1, 640)
pid = ctypes.PyDLL(None).syscall({clone}, signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0:
    faulthandler.disable()
    shared[:] = b"".join(draw() for _ in range(10))
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
drawn = [shared[at : at + 64] for at in range(0, 640, 64)]
"""
RANDOM = """
if (level, status) != ("memfd", -signal.SIGSEGV):
    assert status == 0, status
    assert not any(
        part == bytes(8) for each in drawn for part in (each[:8], each[8:16], each[-8:])
    )
    assert len({*drawn, *(draw() for _ in range(10))}) == 20
print(level)
"""
SECURE = """
if (level, status) != ("memfd", -signal.SIGSEGV):
    assert status == 0, status
    assert drawn == [bytes(64)] * 10
print(level)
"""
LEVELS = {"memfd": LOCKED, "mlock": LOCKED, "plain": 0}


def check(script, *, kind, level):
    found = run_limited(
        START.format(kind=kind, level=level, clone=CLONE) + script, limit=LEVELS[level]
    )
    if found != level and level == "memfd":
        pytest.skip(f"memfd_secret(2) is not available here: the level is {found}")
    assert found == level


@needs_clone
@each_level
def test_random_bytes_are_neither_zeros_nor_the_parents(level):
    check(RANDOM, kind="random", level=level)


@needs_clone
@each_level
def test_secure_buffers_hold_nothing_of_the_parents(level):
    check(SECURE, kind="secure", level=level)
