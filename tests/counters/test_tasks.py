"""The numbers of tasks: what is counted, how many tasks are told apart, and what deaths change."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.counters.catalog import TASK_COUNTERS, TASK_PEAK, Catalog
from bufpool_workers.counters.compaction import compact
from bufpool_workers.counters.report import Report
from bufpool_workers.counters.reporter import read_report
from bufpool_workers.counters.tasks import MOST_TASKS, OTHER_TASKS, fold_tasks
from bufpool_workers.counters.trim_request import ask_to_trim
from bufpool_workers.memory import TaskTally
from bufpool_workers.metrics import make_registry
from bufpool_workers.pool_stats import TaskStats
from bufpool_workers.runtime import Job, current_runtime
from tests.support.counters import names
from tests.support.forked import run_forked

MERGED = {"counter_bufpool-merged.db", "gauge_max_bufpool-merged.db"}


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    testing.configure(bp.Settings.read({"bufpool_task_metrics": True}))
    yield current_runtime()
    testing.reset()


def run(task, *sizes, keep=None):
    """Run a job that holds buffers of these sizes at once."""
    job = Job(f"{task}-{len(sizes)}", task)
    current_runtime().begin_job(job)
    held = [bp.buffer(size) for size in sizes]
    if keep is not None:
        keep.append(held[0][:1])
        with pytest.warns(ResourceWarning):
            current_runtime().end_job(job)
        return
    for buffer in held:
        buffer.release()
    current_runtime().end_job(job)


def test_each_task_has_its_own_numbers(tmp_path):
    run("shop.resize", 4096, 100)
    run("shop.resize", 4096)
    run("shop.mail", 10)
    with bp.buffer(5000):  # of no task
        pass
    assert read_report(tmp_path).tasks == {
        "shop.resize": TaskStats(gets=3, peak_bytes=4196),
        "shop.mail": TaskStats(gets=1, peak_bytes=10),
    }


def test_secure_and_random_buffers_count_too(tmp_path):
    current_runtime().begin_job(job := Job("1", "shop.pay"))
    with bp.secure_buffer(64), bp.random_buffer(100_000), bp.buffer(1):
        pass
    current_runtime().end_job(job)
    assert read_report(tmp_path).tasks == {"shop.pay": TaskStats(gets=3, peak_bytes=100_065)}


def test_escapes_and_reclaims_are_those_of_the_task_that_took_the_buffer(tmp_path):
    kept = []
    run("shop.leak", 4096, keep=kept)
    current_runtime().begin_job(job := Job("1", "shop.escape"))
    with pytest.warns(ResourceWarning), bp.buffer(1) as buffer:
        kept.append(buffer[:1])
    with pytest.warns(ResourceWarning):
        bp.buffer(2)
    current_runtime().end_job(job)
    assert read_report(tmp_path).tasks == {
        "shop.escape": TaskStats(gets=2, escapes=1, reclaims=1, peak_bytes=2),
        "shop.leak": TaskStats(gets=1, escapes=1, reclaims=1, peak_bytes=4096),
    }


def test_a_nested_job_counts_for_its_own_task(tmp_path):
    outer, inner = Job("1", "outer"), Job("2", "inner")
    current_runtime().begin_job(outer)
    with bp.buffer(100):
        current_runtime().begin_job(inner, nested=True)
        with bp.buffer(200):
            pass
        current_runtime().end_job(inner)
    current_runtime().end_job(outer)
    assert read_report(tmp_path).tasks == {
        "inner": TaskStats(gets=1, peak_bytes=200),
        "outer": TaskStats(gets=1, peak_bytes=100),
    }


def test_nothing_is_told_without_the_setting(tmp_path):
    testing.configure(bp.Settings())
    run("shop.resize", 4096)
    assert read_report(tmp_path).tasks == {}
    assert not list(tmp_path.glob("gauge_max*"))


def test_a_forked_child_of_a_running_job_counts_in_its_own_file(tmp_path):
    current_runtime().begin_job(job := Job("1", "shop.forks"))
    buffer = bp.buffer(1000)

    def work():
        with bp.buffer(7):
            pass
        bp.buffer(7).release()

    assert run_forked(work) == 0
    buffer.release()
    current_runtime().end_job(job)
    expected = {"shop.forks": TaskStats(gets=3, peak_bytes=1000)}
    assert read_report(tmp_path).tasks == expected
    assert compact(tmp_path).merged == 2
    assert read_report(tmp_path).tasks == expected


def test_numbers_outlive_a_removed_file(tmp_path):
    run("shop.resize", 4096)
    for path in tmp_path.glob("*.db"):
        path.unlink()
    run("shop.resize", 100)
    assert read_report(tmp_path).tasks == {"shop.resize": TaskStats(gets=2, peak_bytes=4096)}


def test_new_pools_count_on_from_the_same_totals(tmp_path):
    run("shop.resize", 4096)
    testing.configure(bp.Settings.read({"bufpool_task_metrics": True, "bufpool_debug": True}))
    run("shop.resize", 100)
    assert read_report(tmp_path).tasks == {"shop.resize": TaskStats(gets=2, peak_bytes=4096)}


def test_totals_are_those_of_killed_processes_before_and_after_compaction(tmp_path):
    def work():
        run("shop.resize", *range(1, 11))
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(5):
        assert run_forked(work) == -signal.SIGKILL
    expected = {"shop.resize": TaskStats(gets=50, peak_bytes=55)}
    assert read_report(tmp_path).tasks == expected
    assert compact(tmp_path).merged == 10
    assert names(tmp_path) == MERGED
    assert read_report(tmp_path).tasks == expected
    run("shop.resize", 200)
    assert read_report(tmp_path).tasks == {"shop.resize": TaskStats(gets=51, peak_bytes=200)}


def test_scrape_and_stock_collector_agree(tmp_path):
    run("shop.resize", 4096)
    stock = CollectorRegistry()
    MultiProcessCollector(stock, str(tmp_path))
    for registry in (stock, make_registry(tmp_path)):
        labels = {"task": "shop.resize"}
        assert registry.get_sample_value("bufpool_task_gets_total", labels) == 1
        assert registry.get_sample_value("bufpool_task_peak_bytes", labels) == 4096
        assert registry.get_sample_value("bufpool_task_gets_total", {"task": OTHER_TASKS}) == 0


def test_a_trim_can_still_be_asked_for(tmp_path):
    run("shop.resize", 4096)
    assert ask_to_trim(tmp_path, pids=[os.getpid()], unix_seconds=1.0) == 1
    assert current_runtime().counters.is_trim_asked()


def test_a_report_survives_json(tmp_path):
    run("shop.resize", 4096)
    report = read_report(tmp_path)
    assert Report.from_dict(json.loads(json.dumps(report.as_dict()))).tasks == report.tasks


@pytest.mark.parametrize("name", ["", '"\\{}\n', "\ud800", "ü" * 500, "a" * 5000, OTHER_TASKS])
def test_any_name_of_a_task_can_be_counted(tmp_path, name):
    run(name, 10)
    run("shop.resize", 5)
    report = read_report(tmp_path)
    assert report.skipped == {}
    assert sum(its.gets for its in report.tasks.values()) == 2
    assert report.tasks["shop.resize"] == TaskStats(gets=1, peak_bytes=5)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.integers(0, 2 * MOST_TASKS), min_size=1, max_size=3),
    choose=st.randoms(use_true_random=False),
    merge=st.booleans(),
)
def test_the_bound_holds_and_no_number_is_lost(tmp_path_factory, counts, choose, merge):
    directory = Path(tmp_path_factory.mktemp("metrics"))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)  # put back by the fixture
    testing.configure(bp.Settings.read({"bufpool_task_metrics": True}))
    expected: Counter[str] = Counter()
    most = 0
    for count in counts:
        jobs = [
            (f"tasks.number_{choose.randrange(3 * MOST_TASKS)}", choose.randint(1, 9))
            for _ in range(count)
        ]
        expected.update(task for task, _ in jobs)
        most = max([most, *(size for _, size in jobs)])

        def work(jobs=jobs):
            for task, size in jobs:
                run(task, size)

        assert run_forked(work) == 0
        if merge:
            compact(directory)
    for _ in range(2):
        tasks = read_report(directory).tasks
        told = set(tasks) - {OTHER_TASKS}
        assert len(told) == min(len(expected), MOST_TASKS)
        assert sum(its.gets for its in tasks.values()) == expected.total()
        assert all(tasks[task].gets <= expected[task] for task in told)
        assert (OTHER_TASKS in tasks) == (len(expected) > MOST_TASKS)
        if told == set(expected):
            assert expected == {task: its.gets for task, its in tasks.items()}
            assert most == max((its.peak_bytes for its in tasks.values()), default=0)
        compact(directory)


def test_tasks_that_were_merged_stay_told_apart():
    catalog = Catalog()
    key = catalog.key
    numbers = {
        key(spec, task=f"t{n}"): (float(n),)
        for n in range(MOST_TASKS + 50)
        for spec in (*TASK_COUNTERS, TASK_PEAK)
    }
    foreign = catalog.key(TASK_COUNTERS[0], task="x", queue="y")
    numbers[foreign] = (7.0,)
    fold_tasks(numbers)
    assert numbers[foreign] == (7.0,)
    for spec in (*TASK_COUNTERS, TASK_PEAK):
        assert all(numbers[key(spec, task=f"t{n}")] == (n,) for n in range(MOST_TASKS))
        rest = list(range(MOST_TASKS, MOST_TASKS + 50))
        assert numbers[key(spec, task=OTHER_TASKS)] == rest


def test_a_tally_refuses_blocks_that_it_can_not_count_in():
    tally = TaskTally()
    block, peak = bytearray(64), bytearray(8)
    for offsets in ((0, 8), (0, 8, 8), (0, 8, 60), (0, 8, -8), (0, 8, 64)):
        with pytest.raises(ValueError, match="a task's tally"):
            tally.bind(block, offsets, peak, 0)
    with pytest.raises(ValueError, match="a task's tally"):
        tally.bind(block, (0, 8, 16), peak, 8)
    with pytest.raises(BufferError):
        tally.bind(block, (0, 8, 16), bytes(8), 0)
    block.append(0)  # nothing is held of it
    tally.bind(bytearray(64), (0, 8, 16), peak, 0)
    assert tally.counts() == (0, 0, 0, 0)
    with pytest.raises(BufferError):
        peak.append(0)
    del tally
    peak.append(0)
