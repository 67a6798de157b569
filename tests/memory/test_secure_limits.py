"""Secure memory where little or none can be locked, and where a level is demanded."""

import pytest

from bufpool_workers import KiB, Pools, Settings, memory
from bufpool_workers.errors import SecureLevelUnmet
from tests.support.lock_limit import real_mlock, run_limited

pytestmark = real_mlock

WARM = """
from bufpool_workers import Pools, Settings, memory
pools = Pools(Settings(secure_level={level!r}))
pools.warm()
"""


def run(code, *, limit, level="any"):
    return run_limited(WARM.format(level=level) + code, limit=limit)


def test_limit_of_64_kib_still_locks_small_credentials():
    found = run(
        "held = [pools.secure.acquire(64) for _ in range(16)]\n"
        "print(pools.secure.stats().unlocked, memory.secure_locked_bytes() <= 65536)\n"
        "[buffer.release() for buffer in held]\n",
        limit=64 * KiB,
    )
    assert found == "0 True"


def test_locked_memory_is_lent_first_and_what_is_beyond_it_is_counted():
    found = run(
        "held = [pools.secure.acquire(4096) for _ in range(16)]\n"
        "first = pools.secure.stats()\n"
        "[buffer.release() for buffer in held]\n"
        "again = [pools.secure.acquire(4096) for _ in range(3)]\n"
        "print(first.hits, 0 < first.unlocked < 16, pools.secure.stats().unlocked -"
        " first.unlocked, pools.stats().secure_level)\n"
        "[buffer.release() for buffer in again]\n",
        limit=64 * KiB,
    )
    assert found == "16 True 0 plain"


def test_unlocked_slots_survive_any_order_of_lending_and_trimming():
    found = run(
        "import random\n"
        "random.seed(5)\n"
        "held = []\n"
        "for step in range(3000):\n"
        "    if held and random.random() < 0.5:\n"
        "        buffer = held.pop(random.randrange(len(held)))\n"
        "        assert bytes(buffer) == b'\\x07' * len(buffer)\n"
        "        buffer.release()\n"
        "    else:\n"
        "        buffer = pools.secure.acquire(random.choice((64, 4096, 9000)))\n"
        "        assert not any(buffer)\n"
        "        buffer[:] = b'\\x07' * len(buffer)\n"
        "        held.append(buffer)\n"
        "    if step % 97 == 0:\n"
        "        pools.secure.trim(all_idle=step % 2 == 0)\n"
        "s = pools.secure.stats()\n"
        "print(s.in_use == len(held), s.damages, s.unlocked > 0)\n"
        "[buffer.release() for buffer in held]\n",
        limit=64 * KiB,
    )
    assert found == "True 0 True"


def test_without_any_locked_memory_buffers_are_lent_wiped_and_counted():
    found = run(
        "import ctypes\n"
        "with pools.secure.acquire(64) as buffer:\n"
        "    buffer[:3] = b'abc'\n"
        "    at = ctypes.addressof((ctypes.c_char * 64).from_buffer(buffer))\n"
        "print(ctypes.string_at(at, 3), pools.secure.stats().unlocked, pools.stats().secure_level,"
        " memory.secure_locked_bytes())\n"
        "with pools.random.acquire(64) as buffer:\n"
        "    assert any(buffer)\n",
        limit=0,
    )
    assert found == r"b'\x00\x00\x00' 1 plain 0"


def test_memory_is_wiped_before_it_is_given_back_to_the_system():
    # A pipe that vmsplice(2) put a page into keeps the page, and shows what was last written to it.
    # Random slots hold what the next one to take them gets; those of memfd_secret can't be spliced.
    found = run(
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "class Piece(ctypes.Structure):\n"
        "    _fields_ = [('at', ctypes.c_void_p), ('nbytes', ctypes.c_size_t)]\n"
        "def splice(at):\n"
        "    out, into = os.pipe()\n"
        "    piece = Piece(at, 64)\n"
        "    assert libc.vmsplice(into, ctypes.byref(piece), 1, 0) == 64, ctypes.get_errno()\n"
        "    return out\n"
        "with pools.random.acquire(65536) as buffer:\n"
        "    at = ctypes.addressof((ctypes.c_char * 64).from_buffer(buffer))\n"
        "with pools.random.acquire(33000) as buffer:\n"
        "    assert ctypes.addressof((ctypes.c_char * 64).from_buffer(buffer)) == at\n"
        "before, after = splice(at), splice(at)\n"
        "shown = any(os.read(before, 64))\n"
        "assert pools.random.trim() > 0\n"
        "print(shown, any(os.read(after, 64)))\n",
        limit=0,
    )
    assert found == "True False"


def test_request_beyond_the_demanded_level_is_refused_with_the_limit_and_what_to_set():
    found = run_limited(
        "from bufpool_workers import Pools, Settings\n"
        "from bufpool_workers.errors import SecureLevelUnmet\n"
        "pools = Pools(Settings(secure_level='mlock'))\n"
        "with pools.secure.acquire(64): pass\n"
        "try:\n"
        "    pools.secure.acquire(256 * 1024)\n"
        "except SecureLevelUnmet as error:\n"
        "    print(error)\n"
        "with pools.secure.acquire(64): pass\n"
        "s = pools.secure.stats()\n"
        "assert s.gets == s.puts == 2, s\n",
        limit=128 * KiB,
    )
    assert found.startswith(
        "secure pool: 262208 bytes are not available at level mlock (bufpool_secure_level): "
        "RLIMIT_MEMLOCK is 131072 bytes and "
    )
    for remedy in ("ulimit -l", "LimitMEMLOCK=", "--ulimit memlock="):
        assert remedy in found


def test_bytes_that_can_not_be_had_are_those_of_one_buffer():
    found = run_limited(
        "from bufpool_workers import Pools, Settings\n"
        "from bufpool_workers.errors import SecureLevelUnmet\n"
        "pools = Pools(Settings(secure_level='mlock'))\n"
        "try:\n"
        "    pools.secure.acquire(3000)\n"
        "except SecureLevelUnmet as error:\n"
        "    print(error)\n",
        limit=0,
    )
    assert found.startswith("secure pool: 4160 bytes are not available at level mlock")


def test_level_that_the_kernel_does_not_have_is_named(monkeypatch):
    monkeypatch.setattr(memory._mapping, "grants_memfd", lambda: False)
    text = str(memory.level_error("secure pool", nbytes=64, level="memfd"))
    assert "the kernel grants no memfd_secret" in text
    assert "bufpool_secure_level to mlock" in text


def test_demanded_level_that_can_be_had_changes_nothing():
    pools = Pools(Settings(secure_level="mlock"))
    try:
        with pools.secure.acquire(64), pools.random.acquire(64):
            assert pools.stats().secure_level != "plain"
    except SecureLevelUnmet:
        pytest.skip("no memory can be locked here")
    finally:
        pools.close()


def test_bytes_that_warming_locks_are_known_beforehand():
    told = memory.secure_warm_bytes(Settings())
    block = 64 * KiB
    found = run("print(memory.secure_locked_bytes())", limit=told + block)
    assert told <= int(found) <= told + block
