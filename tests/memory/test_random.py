"""Random buffers: every byte is new, none is seen twice, whatever interrupts the making."""

import ctypes
import math
import os
import subprocess
import sys
import threading
from collections import Counter

import pytest

from bufpool_workers import Pools, Settings
from bufpool_workers.memory import _keystream
from tests.memory.pools import BARE_PACKAGE, run_script


@pytest.fixture
def pools():
    pools = Pools(Settings())
    yield pools
    pools.close()


def draw(pools, nbytes=32):
    with pools.random.acquire(nbytes) as buffer:
        return bytes(buffer)


def test_bytes_are_evenly_spread(pools):
    counts = Counter()
    for _ in range(500):
        counts.update(draw(pools, 4096))
    n = 500 * 4096
    expected = n / 256
    chi_squared = sum((counts[value] - expected) ** 2 / expected for value in range(256))
    # 255 degrees of freedom: mean 255, deviation 22.6; a sound source fails once in 10^9 runs
    assert 255 - 6 * math.sqrt(510) < chi_squared < 255 + 6.5 * math.sqrt(510)


def test_bits_do_not_depend_on_their_place(pools):
    size, draws = 64, 8000
    ones = [0] * (size * 8)
    for _ in range(draws):
        number = int.from_bytes(draw(pools, size), "little")
        for bit in range(size * 8):
            ones[bit] += number >> bit & 1
    deviation = math.sqrt(draws) / 2
    assert max(abs(count - draws / 2) for count in ones) < 6.5 * deviation


@pytest.mark.parametrize("nbytes", [1, 100, 4096, 65_000, 65_536, 200_000])
def test_no_stretch_stays_unfilled(pools, nbytes):
    seen = [0] * nbytes
    for _ in range(12):  # a byte is zero twelve times in a row once in 10^28
        seen = [a | b for a, b in zip(seen, draw(pools, nbytes), strict=True)]
    assert all(seen)


def test_draws_of_changing_sizes_never_repeat_bytes(pools):
    stream = b"".join(draw(pools, 16 + step * 37 % 3000) for step in range(3000))
    windows = [stream[at : at + 8] for at in range(0, len(stream) - 8, 8)]
    assert len(set(windows)) == len(windows)


def test_what_was_in_view_is_not_handed_out_again(pools):
    buffer = pools.random.acquire(64)
    with pytest.warns(ResourceWarning), buffer:
        view = memoryview(buffer)
    overwritten = bytes(view)
    del view
    with pools.random.acquire(64) as again:
        assert bytes(again) != overwritten
        assert bytes(again).count(0) < 16  # filled anew, as any other


@pytest.mark.parametrize("nbytes", [64, 65_536, 200_000])
def test_release_leaves_neither_what_was_drawn_nor_what_was_written(pools, nbytes):
    with pools.random.acquire(nbytes) as buffer:
        drawn = bytes(buffer)
        buffer[32:64] = bytes(range(32))
        at = ctypes.addressof((ctypes.c_char * nbytes).from_buffer(buffer))
    left = ctypes.string_at(at, nbytes)
    assert drawn[:8] not in left
    assert drawn[-8:] not in left
    assert bytes(range(8)) not in left


def test_parent_and_children_never_draw_the_same_bytes(pools):
    for _ in range(100):
        draw(pools)
    seen = set()
    total = 0
    for _ in range(4):
        pipe, child_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(1000):
                    os.write(child_end, draw(pools))
            finally:
                os._exit(0)
        os.close(child_end)
        with os.fdopen(pipe, "rb") as theirs:
            drawn = [draw(pools) for _ in range(1000)]
            drawn += [theirs.read(32) for _ in range(1000)]
        assert os.waitpid(pid, 0)[1] == 0
        seen.update(drawn)
        total += len(drawn)
    assert total == len(seen) == 8000


def test_threads_never_draw_the_same_bytes(pools):
    barrier = threading.Barrier(4)
    drawn = []

    def work():
        barrier.wait()
        drawn.extend([draw(pools, 1000) for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == len(drawn) == 8000
    assert pools.random.stats().in_use == 0


# a process of its own for each test, since what is replaced here serves the whole process
BROKEN = """
from bufpool_workers import Pools, Settings
from bufpool_workers.memory import _keystream
_keystream.load_keystream()
real, fail = _keystream.rekey, []
def rekey(block):
    if fail and fail[0] == "before":
        raise KeyboardInterrupt
    real(block)
    if fail:
        raise KeyboardInterrupt
_keystream.rekey = rekey
pools = Pools(Settings())
seen = []
def draw(n):
    with pools.random.acquire(n) as buffer:
        seen.append(bytes(buffer[:32]))
for _ in range(3):
    draw(30000)
"""


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", BROKEN + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_interrupted_acquire_loses_no_buffer_and_repeats_no_byte(moment):
    found = run(
        f"fail.append({moment!r})\n"
        "interrupts = 0\n"
        "for _ in range(20):\n"
        "    try: draw(30000)\n"
        "    except KeyboardInterrupt: interrupts += 1\n"
        "fail.clear()\n"
        "for _ in range(20): draw(30000)\n"
        "s = pools.random.stats()\n"
        "print(interrupts > 0, len(seen) == len(set(seen)))\n",
    )
    assert found == "True True"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_interrupted_release_keeps_the_buffer_until_the_next_one(moment):
    found = run(
        "buffer = pools.random.acquire(60000)\n"
        f"fail.append({moment!r})\n"
        "try: buffer.release()\n"
        "except KeyboardInterrupt: print(buffer.released, pools.random.stats().in_use)\n"
        "fail.clear()\n"
        "buffer.release()\n"
        "print(buffer.released, pools.random.stats().in_use)\n",
    )
    assert found.split() == ["False", "1", "True", "0"]


def test_dropped_buffer_is_overwritten_without_a_new_block():
    found = run(
        "import ctypes, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "buffer = pools.random.acquire(60000)\n"
        "at = ctypes.addressof((ctypes.c_char * 60000).from_buffer(buffer))\n"
        "before = bytes(buffer)\n"
        "fail.append('before')\n"
        "del buffer\n"
        "after = ctypes.string_at(at, 60000)\n"
        "print(sum(a == b for a, b in zip(before, after)) < 1000, any(after[-32:]))\n",
    )
    assert found == "True True"


def test_large_buffers_share_no_block_of_keystream(pools):
    drawn = draw(pools, 300_000) + draw(pools, 70_000) + draw(pools, 300_000)
    blocks = [drawn[at : at + 16] for at in range(0, len(drawn), 16)]
    assert len(set(blocks)) == len(blocks)


def test_large_buffer_does_not_show_the_key_that_it_was_filled_from():
    found = run(
        "keys = []\n"
        "outer = real\n"
        "def real(block):\n"
        "    keys.append(bytes(block[:32]))\n"
        "    outer(block)\n"
        "with pools.random.acquire(200_000) as buffer:\n"
        "    print(any(key in bytes(buffer) for key in keys))\n",
    )
    assert found == "False"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_interrupted_filling_of_a_large_buffer_gives_it_back(moment):
    found = run(
        f"fail.append({moment!r})\n"
        "try: pools.random.acquire(200_000)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
        "fail.clear()\n"
        "s = pools.random.stats()\n"
        "print(s.in_use, s.gets == s.puts, s.reclaims, s.escapes)\n",
    )
    assert found.split() == ["interrupted", "0", "True", "0", "0"]


def test_large_buffer_whose_pool_is_closed_while_it_is_filled_is_a_released_one():
    found = run(
        "outer = real\n"
        "def real(block):\n"
        "    if len(block) == 200_000: pools.close()\n"
        "    outer(block)\n"
        "print(pools.random.acquire(200_000).released, pools.random.stats().in_use)\n",
    )
    assert found == "True 0"


def test_buffer_asked_for_while_a_block_is_made_comes_from_the_kernel():
    found = run(
        "outer = real\n"
        "def real(block):\n"
        "    draw(1000)\n"
        "    outer(block)\n"
        "for _ in range(10): draw(30000)\n"
        "print(len(seen), len(set(seen)), pools.random.stats().in_use)\n",
    )
    drawn, different, in_use = map(int, found.split())
    assert drawn == different > 13
    assert in_use == 0


def test_block_begins_with_a_key_that_is_not_the_one_it_was_made_from():
    block = bytearray(range(32)) + bytes(4064)
    _keystream.rekey(memoryview(block))
    first = bytes(block)
    assert first[:32] != bytes(range(32))
    _keystream.rekey(memoryview(block))
    assert first[:32] not in bytes(block)
    assert not {first[at : at + 16] for at in range(0, 4096, 16)} & {
        bytes(block[at : at + 16]) for at in range(0, 4096, 16)
    }


def test_keystream_is_that_of_aes_256_in_counter_mode():
    # a zero block under a zero key: H of test case 13 in the specification of GCM
    block = bytearray(64)
    _keystream.rekey(memoryview(block))
    assert bytes(block[:16]).hex() == "dc95c078a2408989ad48a21492842087"


def test_interrupted_load_of_the_cipher_ends_and_the_next_use_lends():
    run_script(
        BARE_PACKAGE
        + """
import signal, threading
from bufpool_workers import memory, settings
assert not any(name.startswith("cryptography") for name in sys.modules)
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGUSR1, stop)
class Interrupt:
    seen = 0
    def find_spec(self, name, *_):
        if name == "cryptography.hazmat.primitives.ciphers":
            self.seen += 1
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
interrupt = Interrupt()
sys.meta_path.insert(0, interrupt)
pool = memory.Pools(settings.Settings()).random
try:
    pool.acquire(10)
except Stop:
    pass
else:
    raise SystemExit("not interrupted")
assert pool.stats().gets == 0
lent = []
def lend():
    with pool.acquire(10) as buffer:
        lent.append(bytes(buffer))
thread = threading.Thread(target=lend)
thread.start()
thread.join(30)
assert len(lent) == 1 and any(lent[0]) and interrupt.seen == 1, (lent, interrupt.seen)
"""
    )


def test_fork_during_the_load_of_the_cipher_waits_for_its_end():
    run_script(
        BARE_PACKAGE
        + """
import os, signal, threading, warnings
from bufpool_workers import memory, settings
warnings.simplefilter("ignore", DeprecationWarning)   # fork from a process with threads
begun, forking = threading.Event(), threading.Event()
sys.addaudithook(lambda event, _: forking.set() if event == "os.fork" else None)
class Wait:
    def find_spec(self, name, *_):
        if name == "cryptography.hazmat.primitives.ciphers":
            begun.set()
            forking.wait(30)
sys.meta_path.insert(0, Wait())
pool = memory.Pools(settings.Settings()).random
def lend():
    with pool.acquire(100) as buffer:
        assert any(buffer)
thread = threading.Thread(target=lend)
thread.start()
begun.wait(30)
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    code = 1
    try:
        lend()
        code = 0
    finally:
        os._exit(code)
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    )


def test_child_of_a_process_that_loaded_the_cipher_imports_nothing():
    run_script("""
import os, sys
from bufpool_workers import memory, runtime
runtime.current_runtime().load_late_imports()
before = set(sys.modules)
pid = os.fork()
with memory.random_buffer(100) as buffer:
    assert any(buffer)
assert set(sys.modules) == before
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
""")


def test_each_block_has_fresh_bytes_in_its_key():
    """A state that is known, or that a restored snapshot repeats, tells one block and no more."""
    found = run(
        "began, left = [], []\n"
        "outer = real\n"
        "def real(block):\n"
        "    began.append(bytes(block[:32]))\n"
        "    outer(block)\n"
        "    left.append(bytes(block[:32]))\n"
        "for _ in range(10): draw(30000)\n"
        "print(len(began) > 2, any(a == b for a, b in zip(left, began[1:])))\n",
    )
    assert found == "True False"


def test_what_nobody_drew_is_erased_before_the_next_block_is_made():
    found = run(
        "left = []\n"
        "outer = real\n"
        "def real(block):\n"
        "    left.append(any(block[32:]))\n"
        "    outer(block)\n"
        "for _ in range(10): draw(30000)\n"
        "print(len(left) > 1, any(left))\n",
    )
    assert found == "True False"


def test_what_was_drawn_is_erased_from_the_block_and_from_the_pool():
    found = run(
        "blocks = []\n"
        "outer = real\n"
        "def real(block):\n"
        "    outer(block)\n"
        "    blocks[:] = [block]\n"
        "while not blocks: draw(30000)\n"
        "for _ in range(20): draw(100)\n"
        "left = bytes(blocks[0])\n"
        "print(sum(drawn[:8] in left for drawn in seen), any(left))\n",
    )
    assert found == "0 True"
