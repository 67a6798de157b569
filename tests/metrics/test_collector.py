import logging
import math
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from bufpool_workers.counters.catalog import LOCKED_BYTES, SECURE_LEVEL, WARMED, Catalog
from bufpool_workers.counters.format import HEADER, Number, pack_entry
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.collector import Collector, make_registry
from tests.support.counters import close_metric_files, names, total, values_of_process
from tests.support.scripts import run_script

SIZE = {"pool": "regular", "size": "2kb"}
MODES = ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum")
MODES += ("mostrecent", "livemostrecent")


@pytest.fixture
def scrape(tmp_path):
    registry = make_registry(tmp_path)
    return registry.get_sample_value


def test_derived_gauges_come_from_the_sums(workers, scrape):
    workers.count(gets=8, hits=6, misses=2, bytes_allocated=100, bytes_reused=200)
    workers.count_and_die(gets=2, hits=1, misses=1, bytes_allocated=100, bytes_reused=400)
    workers.count(pool="secure", gets=10, hits=3, misses=7)
    assert scrape("bufpool_hit_rate", SIZE) == 70
    assert scrape("bufpool_hit_rate", {"pool": "secure", "size": "2kb"}) == 30
    assert scrape("bufpool_global_hit_rate") == 50
    assert scrape("bufpool_memory_allocated_bytes") == 200
    assert scrape("bufpool_memory_reused_bytes") == 600
    assert scrape("bufpool_reuse_efficiency") == 75


def test_without_traffic_there_is_no_rate_to_alarm_anybody(workers, scrape):
    workers.count()
    assert scrape("bufpool_gets_total", SIZE) == 0
    assert scrape("bufpool_hit_rate", SIZE) is None
    assert scrape("bufpool_global_hit_rate") is None
    assert scrape("bufpool_reuse_efficiency") is None


def test_live_gauges_leave_out_the_dead(workers, scrape):
    workers.count(gets=5, puts=3, idle=4, held_bytes=4096)
    workers.count(gets=2, puts=1, idle=1, held_bytes=1024)
    workers.count_and_die(gets=100, puts=1, idle=9, held_bytes=9)
    assert scrape("bufpool_gets_total", SIZE) == 107
    assert scrape("bufpool_buffers_in_use", SIZE) == 3
    assert scrape("bufpool_buffers_idle", SIZE) == 5
    assert scrape("bufpool_held_bytes", SIZE) == 5120
    assert scrape("bufpool_processes") == 1  # both are of this one


def test_process_gauges_show_lowest_level_locked_bytes_and_warm_processes(workers, scrape):
    for level, locked, warmed in ((2.0, 4096.0, 1.0), (1.0, 8192.0, 1.0), (0.0, 0.0, 0.0)):
        file = workers.count(pool="secure", held_bytes=100)
        file.set_gauge(SECURE_LEVEL, level)
        file.set_gauge(LOCKED_BYTES, locked)
        file.set_gauge(WARMED, warmed)
    assert scrape("bufpool_secure_level") == 0
    assert scrape("bufpool_locked_bytes") == 12288
    assert scrape("bufpool_warmed_processes") == 1  # all are of this one process
    assert scrape("bufpool_processes") == 1


def test_a_process_that_goes_on_in_another_file_is_described_by_that_one(workers, scrape):
    first, second = workers.count(gets=1), workers.count(gets=2)
    first.set_gauge(LOCKED_BYTES, 4096)
    first.mark_stale()
    for gauge in (SECURE_LEVEL, LOCKED_BYTES, WARMED):
        second.set_gauge(gauge, 1.0)
    assert scrape("bufpool_gets_total", SIZE) == 3
    assert scrape("bufpool_secure_level") == scrape("bufpool_locked_bytes") == 1


def test_a_process_that_has_not_said_its_level_yet_does_not_lower_it(workers, scrape):
    workers.count(gets=1)
    assert scrape("bufpool_secure_level") is None
    workers.count(gets=1).set_gauge(SECURE_LEVEL, 2.0)
    assert scrape("bufpool_secure_level") == 2


def test_without_a_living_process_there_is_no_level(scrape):
    assert scrape("bufpool_secure_level") is None
    assert scrape("bufpool_processes") == 0


def test_a_scrape_compacts(workers, tmp_path, scrape):
    for _ in range(5):
        workers.count_and_die(gets=1)
    assert scrape("bufpool_gets_total", SIZE) == 5
    assert names(tmp_path) == {"counter_bufpool-merged.db"}


def test_filters_by_name_work(workers, tmp_path):
    workers.count(gets=1)
    wanted = ["bufpool_gets_total", "bufpool_processes"]
    text = generate_latest(make_registry(tmp_path).restricted_registry(wanted)).decode()
    got = {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}
    assert got == set(wanted)


def test_a_directory_that_may_not_be_written_is_scraped_and_named_once(
    workers, tmp_path, scrape, caplog, monkeypatch
):
    workers.count_and_die(gets=4)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bufpool_workers.metrics.collector.compact", refuse)
    with caplog.at_level(logging.WARNING):
        assert scrape("bufpool_gets_total", SIZE) == 4
        assert scrape("bufpool_gets_total", SIZE) == 4
    (record,) = caplog.records
    assert str(tmp_path) in record.getMessage()
    assert "Permission denied" in record.getMessage()


def test_a_file_that_can_not_be_read_is_counted_and_named_once(tmp_path, scrape, caplog):
    (tmp_path / "stray.db").touch()
    with caplog.at_level(logging.WARNING):
        assert scrape("bufpool_skipped_files") == 1
        assert scrape("bufpool_skipped_files") == 1
    (record,) = caplog.records
    assert str(tmp_path / "stray.db") in record.getMessage()
    (tmp_path / "stray.db").unlink()
    assert scrape("bufpool_skipped_files") == 0


def test_an_empty_file_and_one_that_vanishes_are_no_error(workers, tmp_path, scrape, monkeypatch):
    workers.count(gets=1)
    (tmp_path / "counter_1.db").touch()
    gone = tmp_path / "histogram_2.db"
    gone.touch()
    monkeypatch.setattr(
        "bufpool_workers.counters.snapshot.current_host_id",
        lambda: gone.unlink(missing_ok=True) or "00000000",
    )
    assert scrape("bufpool_gets_total", SIZE) == 1
    assert scrape("bufpool_skipped_files") == 0


def test_a_directory_that_is_gone_is_named(tmp_path):
    with pytest.raises(MetricsError, match="gone': it does not exist"):
        read_directory(tmp_path / "gone")


def make_all_types(client, pid, *, factor=1.0):
    client(pid)
    labelled = Counter("c", "help", ["a", "b"], registry=None)
    labelled.labels("x", 'q"\\\n').inc(0.1 * abs(factor))
    labelled.labels("y", "ü").inc(2)
    histogram = Histogram("h", "help", ["a"], registry=None, buckets=(0.1, 1, 10))
    for value in (0.05, 0.5 * factor, 5, 50):
        histogram.labels("x").observe(value)
    Summary("s", "help", registry=None).observe(0.7 * factor)
    for mode in MODES:
        gauge = Gauge(f"g_{mode}", "help", ["a"], registry=None, multiprocess_mode=mode)
        gauge.labels("x").set(pid * factor)


def collected(collector):
    return {
        metric.name: (
            metric.type,
            metric.documentation,
            sorted((s.name, sorted(s.labels.items()), s.value) for s in metric.samples),
        )
        for metric in collector.collect()
        if not metric.name.startswith("bufpool_")
    }


def approximately(metrics):
    return {
        name: (kind, text, [(n, labels, pytest.approx(v)) for n, labels, v in samples])
        for name, (kind, text, samples) in metrics.items()
    }


def test_the_users_metrics_are_collected_as_prometheus_client_does(client, tmp_path):
    for pid, factor in ((123, 1.0), (456, -3.0), (789, 0.5)):
        make_all_types(client, pid, factor=factor)
    stock = collected(MultiProcessCollector(None, str(tmp_path)))
    assert len(stock) == 3 + len(MODES)
    assert collected(Collector(None, str(tmp_path))) == approximately(stock)
    mark_process_dead(456, str(tmp_path))
    stock = collected(MultiProcessCollector(None, str(tmp_path)))
    assert collected(Collector(None, str(tmp_path))) == approximately(stock)


@pytest.mark.parametrize("accumulate", [True, False])
def test_files_are_merged_as_prometheus_client_does(client, tmp_path, accumulate):
    for pid in (123, 456):
        make_all_types(client, pid)
    files = [str(path) for path in tmp_path.glob("*.db")]

    def merge(collector):
        metrics = collector.merge(files, accumulate=accumulate)
        return {
            m.name: sorted((s.name, str(s.labels), s.value) for s in m.samples) for m in metrics
        }

    assert merge(Collector) == merge(MultiProcessCollector)


def test_merging_files_that_are_gone_returns_nothing(tmp_path):
    assert not Collector.merge([tmp_path / "gauge_liveall_9.db"])


def test_a_counter_goes_on_across_a_change_of_pid(tmp_path, monkeypatch):
    pid = 1
    monkeypatch.setattr(values, "ValueClass", values_of_process(lambda: pid))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    counter = Counter("c", "help", registry=None)
    counter.inc(2)
    pid = 2
    counter.inc(1)
    assert total(tmp_path, "c") == 3
    assert counter._value.get() == 1


@pytest.mark.parametrize("path", [None, "file"])
def test_a_path_that_is_no_directory_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="PROMETHEUS_MULTIPROC_DIR"):
        Collector(CollectorRegistry(), path and str(tmp_path / path))


def test_a_sum_of_fractions_does_not_step_back_when_files_are_merged(client, tmp_path):
    for pid in range(1, 40):
        client(pid)
        Counter("c", "help", registry=None).inc(0.1 * pid)
    exact = math.fsum(0.1 * pid for pid in range(1, 40))
    registry = make_registry(tmp_path, compact_foreign=True)
    seen = [registry.get_sample_value("c_total")]
    for pid in range(1, 40):  # one more is dead at each scrape
        file = tmp_path / f"counter_{pid}.db"
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)  # another inode, which nobody has open
        seen.append(registry.get_sample_value("c_total"))
    close_metric_files()
    assert set(seen) == {exact}
    assert names(tmp_path) == {"counter_bufpool-merged.db"}


def write(directory, name, *keys):
    entries = b"".join(pack_entry(key, Number(1.0)) for key in keys)
    (directory / name).write_bytes(HEADER.pack(HEADER.size + len(entries)) + entries)


def test_names_that_their_writer_allowed_are_scraped_where_legacy_rules_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("prometheus_client.validation._legacy_validation", True)
    write(tmp_path, "counter_1.db", b'["jobs.done", "jobs.done_total", {"job.kind": "x"}, "help"]')
    registry = make_registry(tmp_path)
    assert registry.get_sample_value("jobs.done_total", {"job.kind": "x"}) == 1
    assert registry.get_sample_value("bufpool_skipped_files") == 0
    assert b"jobs_done" in generate_latest(registry)


def test_label_le_of_a_metric_that_is_no_histogram_is_any_text(tmp_path):
    key = b'["sold", "sold_total", {"le": "ACME GmbH"}, "help"]'
    write(tmp_path, "counter_1.db", key)
    registry = make_registry(tmp_path)
    assert registry.get_sample_value("sold_total", {"le": "ACME GmbH"}) == 1


def test_counter_with_the_name_of_a_histogram_does_not_break_the_scrape(tmp_path):
    write(tmp_path, "histogram_1.db", b'["sold", "sold_bucket", {"le": "5"}, "help"]')
    write(tmp_path, "summary_2.db", b'["sold", "sold_sum", {"le": "ACME GmbH"}, "help"]')
    registry = make_registry(tmp_path)
    assert registry.get_sample_value("sold_bucket", {"le": "5.0"}) == 1
    assert registry.get_sample_value("bufpool_skipped_files") == 0


def test_history_knows_when_a_sealed_argument_was_last_refused(tmp_path, monkeypatch):
    collector = Collector(CollectorRegistry(), str(tmp_path), catalog=Catalog())
    began = time.time()
    for seconds, reason in ((0, "wrong_task"), (20, "damaged"), (40, "expired")):
        count_unseal(tmp_path, reason)
        monkeypatch.setattr(time, "time", lambda at=began + seconds: at)
        collector.sample()
    report = collector.report()
    assert report.unseal_failures == {"wrong_task": 1, "damaged": 1, "expired": 1}
    assert report.refused == 2
    assert report.history.last_seen == {"refused": began + 20}


def count_unseal(directory, reason):
    script = f"""
import bufpool_workers as bp
from bufpool_workers.runtime import current_runtime
bp.configure(debug=False)
current_runtime().counters.count_unseal({reason!r})
"""
    assert not run_script(script, PROMETHEUS_MULTIPROC_DIR=str(directory)).stderr
