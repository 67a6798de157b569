"""The description of a node that everything people see is drawn from."""

import json
import math
import os

import psutil
import pytest

from bufpool_workers.counters import ask_to_trim, compact, compact_above
from bufpool_workers.counters.catalog import (
    LOCKED_BYTES,
    SECURE_LEVEL,
    WARMED,
    Catalog,
)
from bufpool_workers.counters.report import Report
from bufpool_workers.counters.reporter import make_report, read_report
from bufpool_workers.counters.snapshot import read_directory
from tests.support.counters import POOLS, make_file
from tests.support.forked import run_forked


@pytest.fixture
def report(tmp_path):
    return lambda: make_report(read_directory(tmp_path), catalog=Catalog())


def test_counters_are_of_all_and_gauges_of_the_living(workers, report):
    workers.count(gets=8, hits=6, misses=2, puts=5, idle=2, held_bytes=20)
    workers.count(pool="secure", gets=10, puts=10, hits=10)
    workers.count_and_die(gets=2, misses=2, puts=1, idle=7, held_bytes=99)
    found = report()
    numbers = found.pools["regular"].sizes["2kb"]
    assert (numbers.gets, numbers.hits, numbers.misses) == (10, 6, 4)
    assert (numbers.in_use, numbers.idle, numbers.held_bytes) == (3, 2, 20)
    assert numbers.hit_rate == 60
    assert found.total.gets == 20
    assert found.total.hit_rate == 80


def test_a_process_is_described_with_what_it_uses(workers, report):
    file = workers.count(gets=3, puts=1, hits=3)
    file.set_gauge(SECURE_LEVEL, 1.0)
    file.set_gauge(LOCKED_BYTES, 8192.0)
    file.set_gauge(WARMED, 1.0)
    (process,) = report().processes
    assert process.pid == os.getpid()
    assert (process.warmed, process.secure_level, process.locked_bytes) == (True, "mlock", 8192)
    assert list(process.pools) == ["regular"]
    assert list(process.pools["regular"].sizes) == ["2kb"]
    assert process.total.in_use == 2


def test_who_never_said_that_it_is_warm_is_not_missed_as_unwarmed(workers, report):
    file = workers.count(gets=1)
    found = report()
    assert found.processes[0].warmed is None
    assert found.warmed_processes == len(found.processes) == 1
    file.set_gauge(WARMED, 0.0)
    assert report().warmed_processes == 0


def test_processes_of_another_namespace_are_not_of_this_one(workers, tmp_path):
    workers.count(gets=1).set_gauge(WARMED, 1.0)

    def count_elsewhere():
        other = make_file(tmp_path, catalog=Catalog("other"), pools=POOLS)
        other.set_gauge(WARMED, 0.0)
        snapshot = read_directory(tmp_path)
        assert len(snapshot.live) == 2
        for namespace, pid, warmed in (("bufpool", os.getppid(), 1), ("other", os.getpid(), 0)):
            found = make_report(snapshot, catalog=Catalog(namespace))
            assert [process.pid for process in found.processes] == [pid]
            assert found.warmed_processes == warmed

    assert run_forked(count_elsewhere) == 0


def test_a_process_is_as_old_as_the_system_says(workers, report):
    workers.count()
    began = psutil.Process().create_time()
    found = report()
    age = found.processes[0].age_seconds
    # psutil knows the boot in whole seconds
    assert age == pytest.approx(found.unix_seconds - began, abs=2)


def test_skipped_files_are_named_with_their_reason(tmp_path, report):
    (tmp_path / "stray.db").touch()
    assert report().skipped == {"stray.db": "no metric file has such a name"}


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308])
def test_invalid_number_of_bytes_is_left_out(workers, report, value):
    workers.count(gets=1, idle=2, held_bytes=value)
    numbers = report().pools["regular"].sizes["2kb"]
    assert (numbers.gets, numbers.idle, numbers.held_bytes) == (1, 2, 0)


def test_without_traffic_there_is_no_rate(workers, report):
    workers.count()
    found = report()
    assert found.total.hit_rate is found.total.reuse_efficiency is None
    assert list(found.pools) == list(POOLS)


def test_it_survives_json(workers, tmp_path, report):
    workers.count(gets=8, hits=6, misses=2, bytes_allocated=1, bytes_reused=3)
    workers.count(pool="secure", gets=8, held_bytes=4096).set_gauge(SECURE_LEVEL, 2.0)
    (tmp_path / "stray.db").touch()
    found = report()
    text = json.dumps(found.as_dict())
    assert Report.from_dict(json.loads(text)) == found
    told = json.loads(text)
    assert told["total"]["hit_rate"] == 37.5
    assert told["pools"]["regular"]["total"]["reuse_efficiency"] == 75
    assert told["pools"]["regular"]["sizes"]["2kb"]["gets"] == 8
    assert told["secure_level"] == "memfd"
    assert told["processes"][0]["pid"] == os.getpid()


def test_a_report_of_a_later_version_can_be_read(workers, report):
    workers.count(gets=8)
    told = report().as_dict()
    told["news"] = told["total"]["news"] = told["processes"][0]["news"] = 1
    told["pools"]["regular"]["sizes"]["2kb"]["news"] = 1
    assert Report.from_dict(told).total.gets == 8


def test_directory_may_be_text_or_a_path(workers, tmp_path):
    workers.count_and_die(gets=3)
    for directory in (str(tmp_path), tmp_path):
        assert read_report(directory).total.gets == 3
        assert compact_above(0, directory) is None
        assert compact(directory).merged == 0
        assert ask_to_trim(directory, pids={os.getpid()}, unix_seconds=1.0) == 0
    assert {path.suffix for path in tmp_path.iterdir()} == {".db", ".lock"}
