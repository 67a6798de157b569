"""The ring file with the last hour of a directory's numbers."""

import errno
import itertools
import os
import random
import signal
import threading
from multiprocessing import get_context

import pytest

from bufpool_workers.counters import history
from bufpool_workers.counters.directory import Directory
from bufpool_workers.counters.format import DamagedFileError
from bufpool_workers.counters.history import EVENTS, History, Sample, read_history, record
from tests.support.forked import run_forked
from tests.support.waiting import wait_until

Process = get_context("fork").Process
BEGAN = 1.8e9
HOUR = 3600


def write(directory, seconds, *, gets=0.0, **counts):
    sample = Sample(BEGAN + seconds, gets, gets / 2, 4096.0)
    record(directory, sample, lambda name: counts.get(name, 0))


def read(directory, seconds):
    return read_history(directory, now=BEGAN + seconds)


def test_samples_are_read_in_their_order(tmp_path):
    for n in range(5):
        write(tmp_path, 15 * n, gets=10 * n)
    found = read(tmp_path, 60)
    assert found.began == BEGAN
    assert [sample.at - BEGAN for sample in found.samples] == [0, 15, 30, 45, 60]
    assert found.samples[-1] == Sample(BEGAN + 60, 40, 20, 4096)


def test_ring_keeps_an_hour_in_a_file_that_does_not_grow(tmp_path):
    for n in range(500):
        write(tmp_path, 15 * n)
        size = (tmp_path / ".bufpool-history").stat().st_size
    found = read(tmp_path, 15 * 499)
    assert len(found.samples) == 240
    assert found.samples[0].at == BEGAN + 15 * 260
    assert size < 16 * 1024
    assert read(tmp_path, 15 * 499 + 2 * HOUR).samples == ()


def test_several_servers_share_the_slots(tmp_path):
    for n in range(20):
        write(tmp_path, 15 * n, gets=n)
        write(tmp_path, 15 * n + 3, gets=99)  # another server, a little later
    assert [sample.gets for sample in read(tmp_path, 300).samples] == list(range(20))


def test_servers_that_write_at_once_leave_whole_samples(tmp_path):
    def serve(number):
        for n in range(100):
            write(tmp_path, 15 * n + number, gets=n)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(tmp_path, 1500)
    assert [sample.gets for sample in found.samples] == sorted(s.gets for s in found.samples)
    assert found.samples


@pytest.mark.parametrize("event", EVENTS)
def test_last_growth_of_an_event_is_kept_beyond_the_hour(tmp_path, event):
    write(tmp_path, 0, **{event: 5})
    assert read(tmp_path, 0).last_seen == {}  # when it was is not known
    write(tmp_path, 15, **{event: 6})
    write(tmp_path, 30, **{event: 6})
    for n in range(1, 5):
        write(tmp_path, n * HOUR, **{event: 6})
    assert read(tmp_path, 4 * HOUR).last_seen == {event: BEGAN + 15}


def test_directory_that_begins_again_is_no_growth(tmp_path):
    write(tmp_path, 0, escapes=5)
    write(tmp_path, 15, escapes=0)
    assert read(tmp_path, 15).last_seen == {}
    write(tmp_path, 30, escapes=1)
    assert read(tmp_path, 30).last_seen == {"escapes": BEGAN + 30}


def test_without_a_sampler_no_history_is_read(tmp_path):
    assert read(tmp_path, 0) is None
    assert read(tmp_path / "missing", 0) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(20_000), b"\0" * 20_000])
def test_damaged_file_is_written_again(tmp_path, content):
    write(tmp_path, 0)
    path = tmp_path / ".bufpool-history"
    path.write_bytes(content)
    assert read(tmp_path, 15) is None
    write(tmp_path, 15)
    assert [sample.at for sample in read(tmp_path, 15).samples] == [BEGAN + 15]


def test_damaged_sample_costs_no_other(tmp_path):
    for n in range(3):
        write(tmp_path, 15 * n)
    path = tmp_path / ".bufpool-history"
    content = bytearray(path.read_bytes())
    slot = int((BEGAN + 15) // 15) % 240
    content[history._HEAD_BYTES + slot * history._SLOT_BYTES] ^= 1
    path.write_bytes(content)
    assert [sample.at - BEGAN for sample in read(tmp_path, 30).samples] == [0, 30]


def test_full_disk_is_an_error_that_leaves_no_half_of_a_sample(tmp_path, monkeypatch):
    write(tmp_path, 0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, 15)
    monkeypatch.undo()
    monkeypatch.setattr(os, "pwrite", lambda fd, content, at: len(content) // 2)
    with pytest.raises(OSError, match="in part"):
        write(tmp_path, 15)
    monkeypatch.undo()
    assert len(read(tmp_path, 15).samples) == 1


def killed_in(store, nbytes, work):
    """Run `work` in a child that is SIGKILLed when that much of its nth store is in the file."""

    def run():
        stores, pwrite = itertools.count(), os.pwrite

        def store_and_die(fd, content, at):
            if next(stores) == store:
                pwrite(fd, content[:nbytes], at)
                os.kill(os.getpid(), signal.SIGKILL)
            return pwrite(fd, content, at)

        os.pwrite = store_and_die
        work()

    assert run_forked(run) == -signal.SIGKILL


@pytest.mark.parametrize(("store", "most"), [(0, history._SLOT_BYTES), (1, history._HEAD_BYTES)])
def test_server_killed_in_any_store_costs_the_next_one_nothing(tmp_path, store, most):
    for nbytes in range(0, most + 1, 8):
        directory = tmp_path / str(nbytes)
        directory.mkdir()
        for n in range(3):
            write(directory, 15 * n, gets=n, damages=n)
        killed_in(store, nbytes, lambda where=directory: write(where, 45, gets=3, damages=3))
        left = read(directory, 45)
        if store == 0:
            whole = 4 if nbytes == most else 3  # half of a slot is none
            assert [sample.gets for sample in left.samples] == list(range(whole))
            assert left.last_seen == {"damages": BEGAN + 30}
        elif nbytes in (0, most):
            assert [sample.gets for sample in left.samples] == list(range(4))
        else:
            assert left is None or left.began == BEGAN  # half of a head is none
        write(directory, 60, gets=4, damages=4)
        after = read(directory, 60)
        gets = [sample.gets for sample in after.samples]
        assert gets[:3] == [0, 1, 2]
        assert gets[-1] == 4


def test_file_cut_off_anywhere_is_read_as_far_as_it_goes(tmp_path):
    for n in range(240):
        write(tmp_path, 15 * n, gets=n)
    path = tmp_path / ".bufpool-history"
    content = path.read_bytes()
    before = 0
    for length in range(0, len(content) + 1, 20):
        path.write_bytes(content[:length])
        found = read(tmp_path, 15 * 239)
        assert (found is None) == (length < history._HEAD_BYTES)
        left = len(found.samples) if found else 0
        assert left == max(0, length - history._HEAD_BYTES) // history._SLOT_BYTES >= before
        before = left


def test_servers_killed_at_any_moment_leave_what_every_reader_takes(tmp_path):
    """The readers do not wait for the writers; each sample and the whole stay consistent."""
    dice, last = random.Random(1), 0

    def serve(began):
        for n in itertools.count(began):
            write(tmp_path, 15 * n, gets=2 * n, escapes=n)

    def has_written():
        nonlocal last
        found = read(tmp_path, 0)
        assert found is not None
        assert found.began == BEGAN
        before, last = last, (found.last_seen.get("escapes", BEGAN) - BEGAN) / 15
        return last > before

    write(tmp_path, 0)
    for _ in range(100):
        server = Process(target=serve, args=(int(last) + 1,))
        server.start()
        for _ in range(dice.randrange(1, 4)):
            wait_until(has_written, what="a sample")
        server.kill()
        server.join()
        has_written()
        found = read(tmp_path, 15 * last + 15)
        ats = [sample.at for sample in found.samples]
        assert ats == sorted(set(ats))
        assert all(s.gets == (s.at - BEGAN) / 15 * 2 == s.hits * 2 for s in found.samples)
        assert last <= (ats[-1] - BEGAN) / 15 <= last + 1  # between its two stores


def test_link_in_its_place_leads_nowhere(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / ".bufpool-history").symlink_to(target)
    with pytest.raises((OSError, DamagedFileError)):
        write(folder, 0)
    assert read(folder, 0) is None
    assert target.read_bytes() == b"precious"


def test_second_name_of_a_file_is_not_written_to(tmp_path):
    (tmp_path / "other").write_bytes(b"precious")
    folder = tmp_path / "metrics"
    folder.mkdir()
    os.link(tmp_path / "other", folder / ".bufpool-history")
    with pytest.raises(DamagedFileError), Directory(folder):
        write(folder, 0)
    assert (tmp_path / "other").read_bytes() == b"precious"


def test_history_goes_through_json():
    told = History(began=1.0, samples=(Sample(1, 2, 3, 4),), last_seen={"escapes": 1.0})
    assert History.from_dict(told.as_dict()) == told
