import fcntl
import os

import pytest
from prometheus_client import Counter, Gauge, Histogram

from bufpool_workers.counters import compact, forget
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.collector import make_registry
from tests.support.counters import close_metric_files, killed_at, total
from tests.support.forked import run_forked


def samples(directory):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in make_registry(directory).collect()
        for sample in family.samples
        if not sample.name.startswith("bufpool_")
    }


def count_and_die(directory, monkeypatch):
    """Count in a real process that ends; return its pid's files' names."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))

    def run():
        from prometheus_client import values  # noqa: PLC0415 - in the child only

        values.ValueClass = values.MultiProcessValue()
        Counter("jobs", "help", ["queue"], registry=None).labels("a").inc(3)
        Counter("orders", "help", registry=None).inc(0.1)
        Histogram("took", "help", registry=None).observe(1)
        for mode in ("all", "max", "livesum"):
            Gauge(f"depth_{mode}", "help", multiprocess_mode=mode, registry=None).set(5)

    assert run_forked(run) == 0


@pytest.fixture
def dead(tmp_path, monkeypatch):
    for _ in range(2):
        count_and_die(tmp_path, monkeypatch)
    return tmp_path


@pytest.mark.parametrize("is_merged", [True, False])
@pytest.mark.parametrize(
    "metric", ["jobs", "jobs_total", "took", "took_bucket", "depth_max", "depth_all"]
)
def test_forgotten_metric_is_gone_and_others_stay(dead, metric, is_merged):
    if is_merged:
        compact(dead, foreign=True)
    before = samples(dead)
    family = metric.removesuffix("_total").removesuffix("_bucket")
    if is_merged and metric == "depth_all":  # compaction drops it
        with pytest.raises(MetricsError, match="did you mean 'depth_max'"):
            forget(dead, metric)
        return
    assert any(name.startswith(family) for name, *_ in before)
    assert forget(dead, metric) > 0
    kept = {key: value for key, value in before.items() if not key[0].startswith(family)}
    assert samples(dead) == kept
    compact(dead, foreign=True)
    with pytest.raises(MetricsError, match="no metric"):
        forget(dead, metric)


def test_forgotten_metric_does_not_come_back_with_the_next_dead_process(dead, monkeypatch):
    compact(dead, foreign=True)
    forget(dead, "jobs")
    count_and_die(dead, monkeypatch)
    compact(dead, foreign=True)
    assert total(dead, "jobs") == 3
    assert total(dead, "orders") == 0.1 * 3


def test_own_numbers_beside_it_stay(workers, dead):
    workers.count_and_die(gets=7)
    compact(dead, foreign=True)
    workers.count(gets=2)
    forget(dead, "jobs")
    assert total(dead) == 9


@pytest.mark.parametrize("metric", ["bufpool_gets", "bufpool_gets_total", "bufpool_processes"])
def test_own_metrics_are_refused(workers, tmp_path, metric):
    workers.count_and_die(gets=7)
    compact(tmp_path)
    for namespace in ("bufpool", "shop")[: 1 + metric.startswith("bufpool_gets")]:
        with pytest.raises(MetricsError, match="of bufpool's own"):
            forget(tmp_path, metric, namespace=namespace)
    assert total(tmp_path) == 7


def test_a_living_process_has_it_and_nothing_is_touched(dead, client):
    compact(dead, foreign=True)
    client(4242)
    Counter("jobs", "help", ["queue"], registry=None).labels("a").inc()
    before = {path.name: path.read_bytes() for path in dead.glob("*.db")}
    with pytest.raises(MetricsError, match="the living process 4242 has 'jobs'"):
        forget(dead, "jobs")
    assert {path.name: path.read_bytes() for path in dead.glob("*.db")} == before
    close_metric_files()
    assert forget(dead, "jobs") == 1


def test_a_living_process_without_it_keeps_its_file(dead, client):
    client(4242)
    Counter("orders", "help", registry=None).inc(1)
    living = dead / "counter_4242.db"
    before = living.stat().st_ino, living.read_bytes()
    forget(dead, "jobs")
    assert (living.stat().st_ino, living.read_bytes()) == before


def test_unknown_name_is_answered_with_similar_names(dead):
    with pytest.raises(MetricsError, match=r"no metric 'job'; did you mean 'jobs'\?$"):
        forget(dead, "job")
    with pytest.raises(MetricsError, match=r"there are 'depth_all', .* and 3 more$"):
        forget(dead, "zzzz")


def test_where_there_is_nothing_it_says_so(tmp_path):
    with pytest.raises(MetricsError, match="there is none but bufpool's own"):
        forget(tmp_path, "jobs")
    with pytest.raises(MetricsError, match="nowhere': it does not exist"):
        forget(tmp_path / "nowhere", "jobs")


@pytest.mark.parametrize("name", ["counter_bufpool-merged.db", "counter_77.db"])
def test_damage_is_named_and_nothing_is_dropped(dead, name):
    compact(dead, foreign=True)
    (dead / name).write_bytes(b"\xff\x00\x00\x00 no file of numbers")
    before = {path.name: path.read_bytes() for path in dead.glob("*.db")}
    with pytest.raises(MetricsError, match=f"{name} is damaged: .*; move it away") as caught:
        forget(dead, "jobs")
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in dead.glob("*.db")} == before


def test_a_held_lock_is_one_line(dead):
    compact(dead)
    fd = os.open(dead / ".bufpool-compact.lock", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(MetricsError, match="another process compacts it right now; try again"):
            forget(dead, "jobs")
    finally:
        os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("owner", "text"), [(0, "is user 0's: run this"), (65534, "Permission")])
def test_what_can_not_be_replaced_is_one_line(dead, owner, text):
    compact(dead, foreign=True)
    dead.chmod(0o755)
    for path in dead.glob("*.db"):
        os.chown(path, owner, -1)

    def run():
        os.seteuid(65534)
        with pytest.raises(MetricsError, match=text):
            forget(f"/proc/self/fd/{fd}/", "jobs")

    fd = os.open(dead, os.O_RDONLY)
    try:
        assert run_forked(run) == 0
    finally:
        os.close(fd)
    assert total(dead, "jobs") == 6


def test_killed_before_any_system_call_all_else_stays(tmp_path, monkeypatch):
    step, killed = 1, True
    while killed:
        directory = tmp_path / str(step)
        directory.mkdir()
        count_and_die(directory, monkeypatch)
        compact(directory, foreign=True)
        count_and_die(directory, monkeypatch)
        killed = killed_at(step, lambda directory=directory: forget(directory, "jobs"))
        assert total(directory, "orders") == 0.2
        assert total(directory, "jobs") in {0, 3, 6}
        if total(directory, "jobs"):
            forget(directory, "jobs")
        assert total(directory, "orders") == 0.2
        assert total(directory, "jobs") == 0
        step += 3
    assert step > 10
