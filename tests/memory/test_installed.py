"""The pools of the process, replaced, closed and interrupted while they are used."""

import pytest

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import current_runtime
from tests.memory.pools import KINDS, run_script

LENDERS = {"regular": "buffer", "secure": "secure_buffer", "random": "random_buffer"}


@pytest.mark.parametrize("kind", KINDS)
def test_pools_closed_while_a_size_is_computed(kind):
    run_script(
        f"import gc, bufpool_workers as bp\n"
        f"from bufpool_workers.runtime import current_runtime\n"
        f"class Size:\n"
        f"    def __index__(self):\n"
        f"        current_runtime().stop_process()\n"
        f"        gc.collect()\n"
        f"        return len([bytes(200) for _ in range(1000)])\n"
        f"bp.{LENDERS[kind]}(5).release()\n"
        f"try:\n"
        f"    bp.{LENDERS[kind]}(Size())\n"
        f"except bp.PoolClosed:\n"
        f"    bp.{LENDERS[kind]}(5).release()\n"
        f"else:\n"
        f"    raise SystemExit('lent by a closed pool')\n"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pools_may_be_replaced_in_their_first_use(kind):
    run_script(
        f"import gc, bufpool_workers as bp\n"
        f"from bufpool_workers import testing\n"
        f"from bufpool_workers.runtime import current_runtime\n"
        f"def prepare(pool):\n"
        f"    testing.reset()\n"
        f"    gc.collect()\n"
        f"    kept.extend(bytes(n) for n in range(600))\n"
        f"kept = []\n"
        f"testing.reset()\n"
        f"current_runtime().counters.bind = prepare\n"
        f"try:\n"
        f"    bp.{LENDERS[kind]}(10).release()\n"
        f"except bp.PoolClosed:\n"
        f"    pass\n"
        f"bp.{LENDERS[kind]}(10).release()\n"
    )


def test_threads_may_use_pools_while_others_close_them():
    run_script(
        "import sys, threading, bufpool_workers as bp\n"
        "from bufpool_workers.runtime import current_runtime\n"
        "sys.setswitchinterval(1e-6)\n"
        "def use():\n"
        "    for _ in range(20_000):\n"
        "        try:\n"
        "            bp.buffer(10).release()\n"
        "        except bp.PoolClosed:\n"
        "            pass\n"
        "def close():\n"
        "    for _ in range(2_000):\n"
        "        current_runtime().stop_process()\n"
        "threads = [threading.Thread(target=work) for work in (use, use, close, close)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )


def test_interrupted_first_use_is_retried():
    prepared = []

    def prepare(pool):
        prepared.append(pool.kind)
        if len(prepared) == 1:
            raise KeyboardInterrupt

    testing.reset()
    current_runtime().counters.bind = prepare
    try:
        with pytest.raises(KeyboardInterrupt):
            bp.buffer(10)
        for _ in range(2):
            bp.buffer(10).release()
        assert prepared == ["regular", "regular"]
        assert (bp.stats().regular.gets, bp.stats().regular.in_use) == (2, 0)
    finally:
        current_runtime().stop_process()
        testing.reset()
