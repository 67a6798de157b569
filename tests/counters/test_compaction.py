import contextlib
import fcntl
import math
import os
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram, Summary

from bufpool_workers.counters import compaction
from bufpool_workers.counters import liveness as owners
from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.compaction import compact, compact_above
from bufpool_workers.counters.liveness import ProcessIdentity, has_writer
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.metrics.collector import make_registry
from tests.support.counters import (
    POOLS,
    Workers,
    close_metric_files,
    killed_at,
    make_file,
    names,
    total,
)
from tests.support.forked import run_forked

MERGED = "counter_bufpool-merged.db"


def test_the_dead_become_one_file_and_the_total_stays(workers, tmp_path):
    for count in (1, 2, 3):
        workers.count_and_die(gets=count)
    living = workers.count(gets=10)
    assert total(tmp_path) == 16
    assert compact(tmp_path).merged == 3
    assert names(tmp_path) == {MERGED, living.path.name}
    assert total(tmp_path) == 16


def test_the_next_dead_are_added_to_the_first(workers, tmp_path):
    for _ in range(3):
        workers.count_and_die(gets=5)
        compact(tmp_path)
    assert names(tmp_path) == {MERGED}
    assert total(tmp_path) == 15


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_many_files_are_added_up_exactly_however_many_at_a_time(
    workers, tmp_path, monkeypatch, rows
):
    monkeypatch.setattr(compaction, "_MOST_ROWS", rows)
    numbers = [2.0**53, 1.0, 1.0, 0.1, 2.0**60, 0.2, 0.3]
    for number in numbers:
        workers.count_and_die(gets=number)
    assert compact(tmp_path).merged == len(numbers)
    assert total(tmp_path) == math.fsum(numbers)


def test_rounding_error_of_a_sum_is_carried_to_the_next(workers, tmp_path):
    for count in (2.0**53, 1, 1):  # no float lies between the first and the sum of all
        workers.count_and_die(gets=count)
        compact(tmp_path)
    assert names(tmp_path) == {MERGED}
    assert total(tmp_path) == 2.0**53 + 2


def test_nothing_dead_means_nothing_written(workers, tmp_path):
    workers.count(gets=1)
    compact(tmp_path)
    before = tmp_path.stat().st_mtime_ns
    assert compact(tmp_path).merged == 0
    assert tmp_path.stat().st_mtime_ns == before


@pytest.mark.timeout(600)  # forks at each system call, and again at each of those that follow
def test_killed_before_any_system_call_it_loses_and_doubles_nothing(tmp_path, client, monkeypatch):
    step, killed = 1, True
    while killed:
        directory = tmp_path / str(step)
        directory.mkdir()
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
        for pid in (111, 222):
            Workers(directory).count_and_die(gets=0.1)
            client(pid)
            Counter("jobs", "help", registry=None).inc(0.1)
        close_metric_files()

        def totals(directory=directory):
            return total(directory), total(directory, "jobs")

        def work(directory=directory):
            compact(directory, foreign=True)

        expected = totals()
        killed = killed_at(step, work)
        assert totals() == expected
        again = 1
        while killed_at(again, work):
            assert totals() == expected
            again += 5
        assert totals() == expected
        assert names(directory) == {MERGED}
        step += 1
    assert step > 20


def test_killed_with_half_a_temporary_file_it_is_swept_up(workers, tmp_path):
    workers.count_and_die(gets=4)
    (tmp_path / ".bufpool-merge-0000.tmp").write_bytes(b"half")
    (tmp_path / ".counter_bufpool-00000000-1-1-00000000.tmp").write_bytes(b"half")
    compact(tmp_path)
    assert names(tmp_path) == {MERGED}
    assert total(tmp_path) == 4


@pytest.mark.parametrize("leases", [True, False])
def test_a_file_about_to_get_its_name_is_not_swept_up(tmp_path, monkeypatch, leases):
    monkeypatch.setattr(owners, "_LEASES", leases)
    new = tmp_path / ".counter_bufpool-00000000-1-1-00000000.tmp"
    with new.open("wb"):
        compact(tmp_path)
        assert new.exists()


def test_a_directory_that_nobody_scrapes_does_not_fill(tmp_path):
    workers = Workers(tmp_path)
    for _ in range(250):
        workers.count_and_die(gets=1)
        compact_above(100, tmp_path)
        assert len(names(tmp_path)) <= 101
    assert total(tmp_path) == 250


def test_only_one_compacts_at_a_time(workers, tmp_path):
    workers.count_and_die(gets=1)
    read, write = os.pipe()
    done, finish = os.pipe()
    pid = os.fork()
    if pid == 0:
        with (tmp_path / ".bufpool-compact.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.write(write, b".")
            os.close(finish)
            os.read(done, 1)
        os._exit(0)
    os.read(read, 1)
    assert compact(tmp_path).merged == 0
    os.close(finish)
    os.waitpid(pid, 0)
    assert compact(tmp_path).merged == 1
    for fd in (read, write, done):
        os.close(fd)


def test_a_child_forked_while_it_runs_does_not_keep_the_lock(workers, tmp_path, monkeypatch):
    workers.count_and_die(gets=1)
    read, write = os.pipe()
    children = []
    rename = os.rename

    def fork_and_rename(*args, **kwargs):
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        children.append(pid)
        rename(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fork_and_rename)
        compact(tmp_path)
    workers.count_and_die(gets=1)
    compact(tmp_path)
    try:
        assert names(tmp_path) == {MERGED}
    finally:
        os.close(write)
        os.close(read)
        for pid in children:
            os.waitpid(pid, 0)


def as_owner(path: Path, owner: ProcessIdentity) -> Path:
    name = f"counter_bufpool-{'-'.join(map(str, owner))}-0123abcd.db"
    return path.rename(path.with_name(name))


def lose_lock(path: Path):
    pid = os.fork()
    if pid == 0:  # shares the lock, and drops it for both
        for fd in map(int, [path.name for path in Path("/proc/self/fd").iterdir()]):
            with contextlib.suppress(OSError):
                if os.path.sameopenfile(fd, os.open(path, os.O_RDONLY)):
                    fcntl.flock(fd, fcntl.LOCK_UN)
        os._exit(0)
    os.waitpid(pid, 0)
    with path.open("rb") as other:
        assert not owners.is_locked(other.fileno())


def test_a_living_process_that_lost_its_lock_is_left_alone(workers, tmp_path):
    lose_lock(workers.count(gets=1).path)
    assert compact(tmp_path).merged == 0
    assert len(read_directory(tmp_path).live) == 1


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="this system has no leases")
def test_one_that_lost_its_lock_in_another_container_is_left_alone(workers, tmp_path):
    path = workers.count(gets=1).path
    lose_lock(as_owner(path, ProcessIdentity("feedc0de", 1, 1)))
    assert compact(tmp_path).merged == 0
    assert len(read_directory(tmp_path).live) == 1


def test_a_dead_process_whose_file_a_child_holds_waits_but_does_not_live(workers, tmp_path):
    me = ProcessIdentity.current()
    path = workers.count(gets=2).path  # this process is the child
    as_owner(path, me._replace(started=me.started - 5))
    assert compact(tmp_path).merged == 0
    snapshot = read_directory(tmp_path)
    assert (snapshot.live, total(tmp_path)) == ([], 2)


def test_a_pid_that_is_used_again_does_not_keep_the_dead(workers, tmp_path):
    me = ProcessIdentity.current()
    path = workers.count_and_die(gets=2)
    as_owner(path, me._replace(started=me.started - 5))
    assert compact(tmp_path).merged == 1
    assert total(tmp_path) == 2


@pytest.mark.parametrize("leases", [True, False])
def test_another_boot_or_container_is_judged_by_its_lock(workers, tmp_path, monkeypatch, leases):
    monkeypatch.setattr(owners, "_LEASES", leases)
    elsewhere = ProcessIdentity("feedc0de", os.getpid(), 1)
    dead = workers.count_and_die(gets=2)
    as_owner(dead, elsewhere)
    living = workers.count(gets=3)
    as_owner(living.path, elsewhere._replace(started=2))
    assert compact(tmp_path).merged == 1
    assert total(tmp_path) == 5
    assert len(read_directory(tmp_path).live) == 1


def test_without_leases_a_running_owner_keeps_its_file(workers, tmp_path, monkeypatch):
    monkeypatch.setattr(owners, "_LEASES", False)
    workers.count_and_die(gets=2)  # its name says this process, which runs
    result = compact(tmp_path)
    assert (result.merged, result.unmerged) == (0, {})
    assert run_forked(lambda: Workers(tmp_path).count_and_die(gets=2)) == 0
    assert compact(tmp_path).merged == 1
    assert total(tmp_path) == 4


def make_foreign(client, pid):
    client(pid)
    n = float(pid)
    Counter("jobs", "help", ["queue"], registry=None).labels("mail").inc(n)
    Histogram("seconds", "help", registry=None, buckets=(150, 1000)).observe(n)
    Summary("bytes", "help", registry=None).observe(n)
    for mode in ("all", "min", "max", "sum", "mostrecent", "liveall", "livesum"):
        Gauge(f"g_{mode}", "help", registry=None, multiprocess_mode=mode).set(n)


def samples(directory):
    registry = make_registry(directory, compact_foreign=True)
    return {
        (s.name, *sorted(s.labels.items())): s.value
        for metric in registry.collect()
        for s in metric.samples
        if not s.name.startswith("bufpool_")
    }


def test_every_type_of_user_metric_is_kept_except_live_only_gauges(client, tmp_path):
    for pid in (111, 222):
        make_foreign(client, pid)
    close_metric_files()
    before = collect_plain(tmp_path)
    for mode in ("all", "liveall"):
        for pid in (111, 222):
            assert before.pop((f"g_{mode}", ("pid", str(pid)))) == pid
    assert before.pop(("g_livesum",)) == 333
    assert samples(tmp_path) == before
    assert before["g_min",] == 111
    assert before["g_max",] == 222
    assert before["g_sum",] == 333
    assert before["g_mostrecent",] == 222
    assert before["seconds_bucket", ("le", "150.0")] == 1
    assert before["seconds_sum",] == 333
    merged = {f"{kind}_bufpool-merged.db" for kind in ("counter", "histogram", "summary")}
    merged |= {f"gauge_{m}_bufpool-merged.db" for m in ("min", "max", "sum", "mostrecent")}
    assert names(tmp_path) == merged
    make_foreign(client, 444)
    close_metric_files()
    after = samples(tmp_path)
    assert after["jobs_total", ("queue", "mail")] == 777
    assert after["g_max",] == 444
    assert after["g_mostrecent",] == 444
    assert names(tmp_path) == merged


def collect_plain(directory):
    registry = make_registry(directory)
    return {
        (s.name, *sorted(s.labels.items())): s.value
        for metric in registry.collect()
        for s in metric.samples
        if not s.name.startswith("bufpool_")
    }


def test_the_users_files_are_left_alone_unless_asked_for(client, tmp_path):
    make_foreign(client, 111)
    close_metric_files()
    before = names(tmp_path)
    compact(tmp_path)
    assert names(tmp_path) == before


def test_the_users_living_files_are_left_alone_whatever_their_pid(client, tmp_path):
    make_foreign(client, 999_999_999)
    before = names(tmp_path)
    result = compact(tmp_path, foreign=True)
    assert (result.merged, result.dropped) == (0, 0)
    assert names(tmp_path) == before


def test_a_new_process_with_an_old_pid_counts_on_beside_the_merged(client, tmp_path):
    for _ in range(3):
        client(111)
        Counter("jobs", "help", registry=None).inc(2)
        close_metric_files()
        compact(tmp_path, foreign=True)
    assert total(tmp_path, "jobs") == 6
    assert names(tmp_path) == {MERGED}


@contextmanager
def before_the_claim(monkeypatch, name, act):
    """Call `act()` when compaction is about to rename the file."""
    rename = os.rename

    def act_first(source, target, **kwargs):
        if source == name:
            act()
        rename(source, target, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", act_first)
        yield


def test_a_file_opened_again_while_it_is_claimed_is_kept_until_its_writer_ends(
    client, tmp_path, monkeypatch
):
    client(111)
    Counter("jobs", "help", registry=None).inc(2)
    close_metric_files()

    def open_first():
        client(111)
        again.append(Counter("jobs", "help", registry=None))

    again: list[Counter] = []
    with before_the_claim(monkeypatch, "counter_111.db", open_first):
        assert compact(tmp_path, foreign=True).merged == 0
    again[0].inc(5)
    assert total(tmp_path, "jobs") == 7
    close_metric_files()
    assert compact(tmp_path, foreign=True).merged == 1
    assert total(tmp_path, "jobs") == 7


def test_count_just_before_a_file_is_claimed_is_in_the_sum(client, tmp_path, monkeypatch):
    client(111)
    Counter("jobs", "help", registry=None).inc(2)
    close_metric_files()

    def count_first():
        client(111)
        Counter("jobs", "help", registry=None).inc(5)
        close_metric_files()

    with before_the_claim(monkeypatch, "counter_111.db", count_first):
        assert compact(tmp_path, foreign=True).merged == 1
    assert total(tmp_path, "jobs") == 7


def test_a_gauge_opened_again_while_it_is_dropped_stays_with_its_pid_until_its_writer_ends(
    client, tmp_path, monkeypatch
):
    def gauge():
        client(111)
        return Gauge("busy", "help", registry=None, multiprocess_mode="liveall")

    def open_after(fd, **known):
        writer = has_writer(fd, **known)
        if not again:
            again.append(gauge())
        return writer

    gauge().set(2)
    close_metric_files()
    again: list[Gauge] = []
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "has_writer", open_after)
        assert compact(tmp_path, foreign=True).dropped == 0
    again[0].set(5)
    assert samples(tmp_path) == {("busy", ("pid", "111")): 5}
    close_metric_files()
    assert compact(tmp_path, foreign=True).dropped == 1
    assert names(tmp_path) == set()


def test_an_identifier_that_looks_like_ours_keeps_its_name(client, tmp_path):
    client("x-bufpool-1")
    Gauge("busy", "help", registry=None, multiprocess_mode="all").set(2)
    assert collect_plain(tmp_path) == {("busy", ("pid", "x-bufpool-1")): 2}


def test_where_no_lease_is_to_be_had_the_users_files_stay_and_the_log_says_why_once(
    client, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(owners, "_LEASES", False)
    for pid in (111, 222):
        make_foreign(client, pid)
    close_metric_files()
    before = names(tmp_path)
    registry = make_registry(tmp_path, compact_foreign=True)
    for _ in range(2):
        list(registry.collect())
    assert names(tmp_path) == before
    (line,) = caplog.messages
    assert line.startswith(f"bufpool: metrics: {tmp_path}/: prometheus_client's files can't be")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_users_dead_files_are_not_merged_without_a_word(client, tmp_path):
    make_foreign(client, 111)
    close_metric_files()

    def work():
        os.setuid(65534)
        result = compact(tmp_path, foreign=True)
        assert (result.merged, result.dropped, list(result.unmerged)) == (0, 0, [""])

    tmp_path.chmod(0o777)
    assert run_forked(work) == 0
    result = compact(tmp_path, foreign=True)
    assert result.merged > 0
    assert not result.unmerged


def make_hostile(directory: Path) -> set[str]:
    entry = b"\x0a\x00\x00\x00"
    (directory / "counter_1.db").write_bytes(b"\xff\xff\xff\x7f0000" + entry)
    (directory / "counter_2.db").write_bytes(b"\x20\x00\x00\x000000" + b"\xff" * 24)
    (directory / "histogram_3.db").symlink_to("/dev/zero")
    os.mkfifo(directory / "summary_4.db")
    (directory / "counter_5.db").mkdir()
    (directory / "stray.db").write_bytes(b"hello")
    (directory / "gauge_odd_6.db").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(directory / "counter_7.db"))
    (directory / MERGED).write_bytes(b"\x08\x00\x00\x000000nothing of ours")
    return names(directory)


def test_hostile_files_are_skipped_and_named_and_stay(workers, tmp_path, client, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a unix socket's path is short
    hostile = make_hostile(tmp_path)
    living = workers.count(gets=3)
    client(111)
    dead = workers.count_and_die(gets=4)
    (tmp_path / "counter_8.db").touch()  # a process about to write its first entry
    result = compact(tmp_path, foreign=True)
    assert result.merged == 0
    snapshot = read_directory(tmp_path)
    assert set(snapshot.unreadable) == hostile
    assert names(tmp_path) == {*hostile, living.path.name, dead.name, "counter_8.db"}
    assert total(tmp_path) == 7
    assert "remove it to begin again" in result.unmerged[MERGED]


def test_a_damaged_file_does_not_keep_the_others_from_being_merged(workers, tmp_path):
    damaged = workers.count_and_die(gets=1)
    with damaged.open("r+b") as file:
        file.seek(8)
        file.write(b"\xff\xff\xff\xff")
    workers.count_and_die(gets=4)
    result = compact(tmp_path)
    assert (result.merged, set(result.unmerged)) == (1, {damaged.name})
    assert total(tmp_path) == 4


def test_a_directory_that_may_not_be_written_is_still_read(workers, tmp_path):
    workers.count_and_die(gets=4)

    def work():
        tmp_path.chmod(0o555)
        if os.geteuid() == 0:
            os.setuid(65534)
        with pytest.raises(PermissionError):
            compact(tmp_path)
        assert total(tmp_path) == 4

    try:
        assert run_forked(work) == 0
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_users_file_in_a_sticky_directory_is_named_not_absorbed(workers, tmp_path):
    path = workers.count_and_die(gets=4)
    path = as_owner(path, ProcessIdentity("feedc0de", 1, 1))

    def work():
        tmp_path.chmod(0o1777)
        os.setuid(65534)
        result = compact(tmp_path)
        assert result.merged == 0
        assert "another user" in result.unmerged[path.name]
        assert total(tmp_path) == 4

    assert run_forked(work) == 0
    assert path.exists()


def test_a_process_that_dies_of_a_signal_is_merged_like_any_other(tmp_path):
    def work():
        Workers(tmp_path).count(gets=4)
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_forked(work) == -signal.SIGKILL
    assert compact(tmp_path).merged == 1
    assert total(tmp_path) == 4
    assert sys.platform != "linux" or names(tmp_path) == {MERGED}


def test_a_fork_counts_in_its_own_file_and_frees_its_parents(tmp_path):
    parent = make_file(tmp_path, catalog=Catalog(), pools=POOLS)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        parent.close()
        Workers(tmp_path).count(gets=1)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    parent.close()
    while len(names(tmp_path)) > 1 and total(tmp_path) < 1:
        os.sched_yield()
    os.close(write)
    os.waitpid(pid, 0)
    compact(tmp_path)
    assert total(tmp_path) == 1
    assert names(tmp_path) == {MERGED}
