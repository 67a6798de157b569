"""The level of secure memory at a worker's start: shown, demanded, refused."""

import signal
import sys

import pytest

from bufpool_workers import KiB, Settings, memory
from tests.support.lock_limit import WITH_LOCK_LIMIT

WARM = memory.secure_warm_bytes(Settings())


def limited(nbytes):
    return [sys.executable, "-c", WITH_LOCK_LIMIT, str(nbytes)]


def test_level_reached_is_in_the_start_up_log(start_worker):
    worker = start_worker("plugin_app:app", arguments=["--concurrency=1"])
    level = memory.reachable_level(WARM)
    worker.wait_for_log(f"bufpool: secure memory at level {level}, RLIMIT_MEMLOCK is ")


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
@pytest.mark.parametrize("level", ["mlock", "memfd"])
def test_worker_that_cannot_lock_what_is_demanded_does_not_start(start_worker, pool, level):
    worker = start_worker(
        "plugin_app:app",
        ready=False,
        arguments=[f"--pool={pool}", "--concurrency=1"],
        settings={"bufpool_secure_level": level},
        prefix=limited(64 * KiB),
    )
    assert worker.wait() not in (0, -signal.SIGKILL)
    log = worker.log()
    assert "Traceback" not in log
    assert f"{WARM} bytes are not available at level {level} (bufpool_secure_level)" in log
    if memory.reachable_level() == "memfd":
        assert f"RLIMIT_MEMLOCK is {64 * KiB} bytes" in log
        for remedy in ("ulimit -l", "LimitMEMLOCK=", "--ulimit memlock="):
            assert remedy in log
    assert " ready." not in log


def test_worker_starts_at_the_demanded_level_where_the_limit_has_room(start_worker):
    worker = start_worker(
        "plugin_app:app",
        arguments=["--concurrency=1"],
        settings={"bufpool_secure_level": "mlock"},
        prefix=limited(WARM),
    )
    assert worker.run("pool_tasks.numbers")["secure"]["idle"] == 32
