"""The pools of a process and the file that they count in."""

import os
import subprocess
import sys
import time

import pytest

import bufpool_workers as bp
from bufpool_workers import Settings, memory, testing
from bufpool_workers.counters.catalog import LOCKED_BYTES, WARMED, Catalog
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.runtime import current_runtime
from tests.support.counters import names, total
from tests.support.forked import run_forked


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    testing.configure(Settings())
    yield current_runtime()
    testing.reset()


def use(pool):
    with pool.acquire(1):
        pass


def test_trying_whether_a_process_can_count_leaves_nothing(runtime, tmp_path):
    runtime.counters.check()
    assert names(tmp_path) == set()


def test_a_fork_counts_in_its_own_file_whichever_pool_it_uses_first(runtime, tmp_path):
    pools = runtime.pools
    use(pools.regular)
    runtime.counters.set_warmed(warm=True)

    def work():
        use(pools.secure)
        use(pools.regular)
        parents, ours = sorted(read_directory(tmp_path).live, key=is_warm, reverse=True)
        assert (ours.owner.pid, parents.owner.pid) == (os.getpid(), os.getppid())
        assert sum(parents.counters.values()) == before

    def is_warm(process):
        return process.gauges[Catalog().key(WARMED)] == 1  # or not told: NaN

    (process,) = read_directory(tmp_path).live
    before = sum(process.counters.values())
    assert run_forked(work) == 0
    assert is_warm(read_directory(tmp_path).live[0])
    assert total(tmp_path) == 3


def test_when_its_file_was_removed_the_next_one_has_all_numbers_and_goes_on(runtime, tmp_path):
    pools = runtime.pools
    use(pools.regular)
    use(pools.random)
    (file,) = tmp_path.glob("*.db")
    file.unlink()
    runtime.counters.ensure_file()
    assert total(tmp_path) == 2
    use(pools.regular)
    use(pools.random)
    use(pools.secure)
    assert total(tmp_path) == 5
    (process,) = read_directory(tmp_path).live
    locked = process.gauges[Catalog().key(LOCKED_BYTES)]
    assert locked == memory.secure_locked_bytes()


def test_removed_file_is_looked_for_after_a_lending_and_else_once_a_second(
    runtime, tmp_path, monkeypatch
):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    use(runtime.pools.regular)
    runtime.counters.ensure_file()
    (file,) = tmp_path.glob("*.db")
    file.unlink()
    runtime.counters.ensure_file()
    assert not file.exists()
    now += 1
    runtime.counters.ensure_file()
    assert file.exists()
    file.unlink()
    use(runtime.pools.regular)
    runtime.counters.ensure_file()
    assert total(tmp_path) == 2


WARM_UP = """
import sys
import bufpool_workers as bp, celery
app = celery.Celery()
app.conf.bufpool_warm = {"regular": {"4KiB": 1}, "secure": {}, "random": {}}
app.conf.bufpool_warm_seconds = float(sys.argv[1])
bp.setup(app)
from bufpool_workers import metrics
from bufpool_workers.runtime import current_runtime
current_runtime().start_process()
report = metrics.Collector(None).report()
assert len(report.processes) == 1
print(report.warmed_processes)
"""


@pytest.mark.parametrize(("seconds", "warmed"), [(0, 0), (3.5, 1)])
def test_a_process_is_warm_when_its_warm_up_was_complete(tmp_path, seconds, warmed):
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WARM_UP, str(seconds)]
    found = subprocess.run(command, env=env, check=True, timeout=60, capture_output=True, text=True)
    assert found.stdout == f"{warmed}\n"


@pytest.mark.parametrize("level", ["any", "mlock"])
def test_reading_the_keys_is_not_counted(tmp_path, monkeypatch, level):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    bp.generate_key(tmp_path / "key")
    testing.configure(
        Settings(private_keys=(str(tmp_path / "key"),), secure_level=level, warm_seconds=0.0)
    )
    current_runtime().start_process()
    assert current_runtime().keys.private.key_ids
    assert bp.stats().total.gets == total(tmp_path) == 0
    testing.reset()
