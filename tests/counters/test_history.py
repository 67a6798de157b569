"""The ring file with the last hour of a directory's numbers."""

import errno
import os
import threading

import pytest

from bufpool_workers.counters import history
from bufpool_workers.counters.directory import Directory
from bufpool_workers.counters.format import DamagedFileError
from bufpool_workers.counters.history import EVENTS, History, Sample, read_history, record

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
