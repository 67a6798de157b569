"""The child of a fork by system call, past libc: no handler of a fork has run in it."""

import platform
import sys

import pytest

from tests.memory.pools import run_script

CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())

DRAW = """
import ctypes, mmap, os, signal, sys
from bufpool_workers.memory import BufferPool, _keystream, _mapping
# no descriptor is left for memfd_secret(2), so that the level is mlock or plain
import resource
_keystream.load_keystream()
pool = BufferPool("random", size_classes=(2048,), max_bytes=1 << 20, max_buffer_bytes=2048)
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
def draw():
    with pool.acquire(64) as buffer:
        return bytes(buffer)
[draw() for _ in range(3)]
level = _mapping.secure_level()
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
assert level != "memfd", level
shared = mmap.mmap(-1, 640)
pid = ctypes.PyDLL(None).syscall({clone}, signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0:
    shared[:] = b"".join(draw() for _ in range(10))
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 0, status
drawn = [shared[at : at + 64] for at in range(0, 640, 64)]
assert not any(part == bytes(8) for each in drawn for part in (each[:8], each[8:16], each[-8:]))
assert len({{*drawn, *(draw() for _ in range(10))}}) == 20
"""


@pytest.mark.skipif(
    sys.platform != "linux" or CLONE is None, reason="the number of clone(2) is known for Linux"
)
def test_random_bytes_are_neither_zeros_nor_the_parents():
    run_script(DRAW.format(clone=CLONE))
