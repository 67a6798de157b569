import errno
import fcntl
import os
import resource
import struct
import sys

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from bufpool_workers.counters.catalog import SECURE_LEVEL, WARMED, Catalog
from bufpool_workers.counters.compaction import compact
from bufpool_workers.counters.counterfile import CounterFile
from bufpool_workers.counters.reporter import make_report
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.errors import UNSEAL_FAILURES, MetricsError
from bufpool_workers.pool_stats import FIELDS
from bufpool_workers.runtime import current_runtime
from tests.support.counters import POOLS, killed_at, make_file, names, total
from tests.support.forked import run_forked


def create(directory):
    return make_file(directory, catalog=Catalog(), pools=POOLS)


def test_a_stock_collector_reads_the_counters_and_nothing_else(workers, tmp_path):
    workers.count(gets=3, hits=2, misses=1, idle=7, held_bytes=9)
    workers.count(gets=1)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))
    labels = {"pool": "regular", "size": "2kb"}
    assert registry.get_sample_value("bufpool_gets_total", labels) == 4
    assert registry.get_sample_value("bufpool_hits_total", labels) == 2
    assert {metric.type for metric in registry.collect()} == {"counter"}


def test_every_key_is_there_before_anything_is_counted(workers, tmp_path):
    workers.count()
    keys = {key for _, _, key, _ in read_directory(tmp_path).merged()}
    assert len(keys) == 3 * (len(FIELDS) - 2) + 1 + len(UNSEAL_FAILURES)


def test_a_pool_counts_in_it_without_a_call(tmp_path):
    pool = current_runtime().pools.regular
    file = make_file(tmp_path, catalog=Catalog(), pools={"regular": pool.labels})
    pool.bind_counters(file.buffer, file.offsets("regular"))
    before = total(tmp_path)
    pool.acquire(100).release()
    assert total(tmp_path) == before + 1
    with pytest.raises(BufferError):
        file.close()


def test_gauges_of_the_process_are_seen_while_it_lives(tmp_path):
    file = create(tmp_path)
    file.set_gauge(WARMED, 1.0)
    file.set_gauge(SECURE_LEVEL, 2.0)
    (process,) = read_directory(tmp_path).live
    assert process.owner.pid == os.getpid()
    assert process.gauges[Catalog().key(WARMED)] == 1.0
    assert process.gauges[Catalog().key(SECURE_LEVEL)] == 2.0
    file.close()
    assert read_directory(tmp_path).live == []


def test_values_are_aligned_and_their_blocks_are_there(tmp_path):
    file = create(tmp_path)
    offsets = [offset for pool in POOLS for offset in file.offsets(pool)]
    assert len(set(offsets)) == len(offsets) == 3 * len(FIELDS)
    assert all(offset % 8 == 0 for offset in offsets)
    status = file.path.stat()
    assert status.st_blocks * 512 >= status.st_size == len(file.buffer)
    file.close()


def places(directory):
    report = make_report(read_directory(directory), catalog=Catalog())
    return {(its.pool, its.place): its.escapes for its in report.escape_places}


def test_escapes_are_counted_by_place_and_outlive_their_process(tmp_path):
    for _ in range(2):
        file = make_file(tmp_path, catalog=Catalog(), pools=POOLS, places=True)
        for _ in range(3):
            file.count_escape(pool="regular", place="app.py:1")
        file.count_escape(pool="secure", place="app.py:2")
        assert read_directory(tmp_path).unreadable == {}
        assert len(read_directory(tmp_path).live) == 1
        file.close()
    expected = {("regular", "app.py:1"): 6, ("secure", "app.py:2"): 2}
    assert places(tmp_path) == expected
    compact(tmp_path)
    assert places(tmp_path) == expected
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))
    labels = {"pool": "regular", "place": "app.py:1"}
    assert registry.get_sample_value("bufpool_escapes_at_total", labels) == 6


def test_places_that_are_known_count_on_in_a_new_file(tmp_path):
    first = make_file(tmp_path, catalog=Catalog(), pools=POOLS, places=True)
    first.count_escape(pool="regular", place="app.py:1")
    first.path.unlink()
    second = first.publish()
    for line in (1, 2):
        second.count_escape(pool="regular", place=f"app.py:{line}")
    assert places(tmp_path) == {("regular", "app.py:1"): 2, ("regular", "app.py:2"): 1}
    first.close()
    second.close()


def test_places_are_bounded_and_their_text_is_made_fit(tmp_path):
    file = make_file(tmp_path, catalog=Catalog(), pools=POOLS, places=True)
    size = len(file.buffer)
    file.count_escape(pool="regular", place="\udcff" + "long/" * 1000 + "app.py:1")
    for number in range(1000):
        file.count_escape(pool="regular", place=f"app.py:{number}")
    found = places(tmp_path)
    assert len(file.buffer) == size == file.path.stat().st_size
    assert 100 < len(found) < 1000
    assert sum(place.endswith("long/app.py:1") for _, place in found) == 1
    file.set_gauge(WARMED, 1.0)  # what lies behind them is whole
    (process,) = read_directory(tmp_path).live
    assert process.gauges[Catalog().key(WARMED)] == 1.0
    file.close()


def test_without_debugging_there_is_no_room_for_places(tmp_path):
    file = create(tmp_path)
    file.count_escape(pool="regular", place="app.py:1")
    assert places(tmp_path) == {}
    file.close()


def test_a_place_is_seen_whole_or_not_at_all_whenever_its_process_is_killed(tmp_path):
    file = make_file(tmp_path, catalog=Catalog(), pools=POOLS, places=True)
    before = file.path.read_bytes()
    file.count_escape(pool="regular", place="app.py:1")
    after = file.path.read_bytes()
    file.close()
    used = int.from_bytes(before[:4], sys.byteorder)
    # all of the entry, and `used` still as it was
    file.path.write_bytes(before[:used] + after[used:])
    assert places(tmp_path) == {}
    assert read_directory(tmp_path).unreadable == {}


def test_its_lock_is_held_until_it_is_closed(tmp_path):
    file = create(tmp_path)
    with file.path.open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        file.close()
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_two_files_of_one_process_have_two_names(tmp_path):
    first, second = create(tmp_path), create(tmp_path)
    assert first.path != second.path
    first.close()
    second.close()


def test_a_process_killed_while_it_makes_its_file_leaves_a_whole_one_or_none(tmp_path):
    step = 1
    while killed_at(step, lambda: create(tmp_path)):
        step += 1
        snapshot = read_directory(tmp_path)
        assert not snapshot.unreadable
        assert {len(os.fspath(n)) > 0 and n.endswith((".db", ".tmp")) for n in names(tmp_path)} <= {
            True
        }
    assert step > 4
    compact(tmp_path)
    assert names(tmp_path) == {"counter_bufpool-merged.db"}


def refused(directory, *words):
    with pytest.raises(MetricsError) as caught:
        create(directory)
    text = str(caught.value)
    for word in (str(directory), *words):
        assert word in text


def test_a_missing_directory_is_named_with_what_to_do(tmp_path):
    refused(tmp_path / "absent", "does not exist", "bufpool_metrics_dir")


def test_a_file_for_a_directory_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "not a directory", "bufpool_metrics_dir")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ("is full", "bytes are needed")),
        (errno.EDQUOT, ("quota", "bytes are needed")),
        (errno.EIO, ("Input/output error",)),
    ],
)
def test_a_filesystem_that_has_no_room_is_an_error_and_leaves_nothing(
    tmp_path, monkeypatch, number, words
):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    refused(tmp_path, *words)
    assert names(tmp_path) == set()


def test_a_limit_on_file_size_is_an_error_not_a_signal(tmp_path):
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        refused(tmp_path, "ulimit -f")

    assert run_forked(work) == 0
    assert names(tmp_path) == set()


def test_a_read_only_directory_is_named_with_what_to_do(tmp_path):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:

        def work():
            os.setuid(65534)
            os.chdir("/")
            refused(tmp_path, "may not be written", "65534")

        tmp_path.chmod(0o555)
        assert run_forked(work) == 0
    else:
        refused(tmp_path, "may not be written")
    tmp_path.chmod(0o700)


def test_numbers_move_into_a_new_file_when_the_first_is_gone(tmp_path):
    first = create(tmp_path)
    at = first.offsets("regular")[0]
    first.buffer[at : at + 8] = struct.pack("=d", 7.0)
    assert first.is_there
    first.path.unlink()
    assert not first.is_there
    second = first.publish()
    assert second.is_there
    assert second.path == first.path
    assert total(tmp_path) == 7
    first.close()
    second.close()


def test_numbers_wait_in_memory_for_a_directory(tmp_path):
    drawn = CounterFile.allocate(tmp_path / "absent", catalog=Catalog(), pools=POOLS)
    at = drawn.offsets("regular")[0]
    drawn.buffer[at : at + 8] = struct.pack("=d", 7.0)
    assert not drawn.is_there
    with pytest.raises(MetricsError, match="it does not exist"):
        drawn.publish()
    drawn.path.parent.mkdir()
    placed = drawn.publish()
    assert total(drawn.path.parent) == 7
    drawn.close()
    placed.close()
