"""Pools for tests: small, and of any kind; and scripts in a process of their own."""

import subprocess
import sys

from bufpool_workers.memory import FIELDS, BufferPool

KINDS = ("regular", "secure", "random")
SIZES = (2048, 4096, 65536)
KiB = 1024

# the package without what its __init__ imports
BARE_PACKAGE = """
import importlib.util, sys
spec = importlib.util.find_spec("bufpool_workers")
spec.loader = None
sys.modules["bufpool_workers"] = importlib.util.module_from_spec(spec)
"""


def make_pool(kind="regular", **changes):
    options = {"size_classes": SIZES, "max_bytes": 1 << 20, "max_buffer_bytes": 1 << 22}
    return BufferPool(kind, **(options | changes))


def block_offsets(pool: BufferPool) -> list[int]:
    """Return an offset for every counter of the pool, without gaps."""
    return [8 * i for i in range(len(pool.labels) * len(FIELDS))]


def check_numbers(pool: BufferPool, *, in_use: int = 0) -> None:
    """Check what holds at every moment, and the number of buffers that are out."""
    numbers = pool.stats()
    for stats in (numbers, *numbers.sizes.values()):
        assert stats.gets == stats.hits + stats.misses
        assert stats.idle >= 0
    assert numbers.in_use == in_use
    assert numbers.held_bytes <= pool.max_bytes


def run_script(text: str, *arguments: str) -> str:
    """Run a script in a fresh interpreter, check that it ends well and quietly; give its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", text, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout
