"""A damaged or hostile file never breaks a scrape: it is left out, counted and named once."""

import logging
import math
import os
import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bufpool_workers.counters.format import HEADER, Number, pack_entry
from bufpool_workers.counters.names import LOCK
from bufpool_workers.counters.snapshot import read_files
from tests.fuzz import hostile

IMAGES = hostile.images()
JOBS = b'["jobs", "jobs_total", {}, "Help"]'
LEVEL = b'["jobs", "jobs", {}, "Help"]'

fuzzed = settings(suppress_health_check=list(HealthCheck))


@pytest.fixture
def made():
    with hostile.directory() as made:
        yield made


def merged(meta, *, keys=(), length=None):
    entries = b"".join(pack_entry(key, Number(1.0)) for key in keys)
    size = struct.pack("=i", len(meta) if length is None else length)
    return HEADER.pack(HEADER.size + len(entries)) + entries + b"bufpool\x02" + size + meta


def keyed(*keys):
    entries = b"".join(pack_entry(key, Number(1.0)) for key in keys)
    return HEADER.pack(HEADER.size + len(entries)) + entries


HOSTILE = {
    "no count: nan": (hostile.OWN, hostile.with_value(IMAGES[hostile.OWN], math.nan)),
    "no count: inf": (hostile.OWN, hostile.with_value(IMAGES[hostile.OWN], math.inf)),
    "no count: negative": (hostile.OWN, hostile.with_value(IMAGES[hostile.OWN], -1.0)),
    "used negative": ("counter_7.db", HEADER.pack(-8) + bytes(64)),
    "used beyond the end": ("counter_7.db", HEADER.pack(1 << 30) + bytes(64)),
    "key length negative": ("counter_7.db", HEADER.pack(64) + struct.pack("=i", -4) + bytes(60)),
    "key length huge": ("counter_7.db", HEADER.pack(64) + b"\xff\xff\xff\x7f" + bytes(60)),
    "key: no JSON": ("counter_7.db", keyed(b"nonsense")),
    "key: no UTF-8": ("counter_7.db", keyed(b"\xff\xfe\xfd")),
    "key: deep": ("counter_7.db", keyed(b"[" * 100_000)),
    "key: half a character as help": ("counter_7.db", keyed(b'["a", "a", {}, "\\ud800"]')),
    "key: half a character as label": ("counter_7.db", keyed(b'["a", "a", {"b": "\\udc00"}, ""]')),
    "key: le of a sum": ("histogram_7.db", keyed(b'["a", "a_sum", {"le": "wide"}, ""]')),
    "merged: key": (hostile.MERGED, merged(b'{"absorbed": [], "remainders": {}}', keys=[b"?"])),
    "merged: deep": (hostile.MERGED, merged(b"[" * 100_000)),
    "merged: length negative": (hostile.MERGED, merged(b"{}", length=-1)),
    "merged: huge int": (
        hostile.MERGED,
        merged(
            b'{"absorbed": [], "remainders": {"[\\"jobs\\", \\"jobs_total\\", {}, \\"Help\\"]": ['
            + b"9" * 400
            + b"]}}",
            keys=[JOBS],
        ),
    ),
    "merged: the rest of a largest": (
        "gauge_max_bufpool-merged.db",
        merged(
            b'{"absorbed": [], "remainders": {"[\\"jobs\\", \\"jobs\\", {}, \\"Help\\"]": [1.0]}}',
            keys=[LEVEL],
        ),
    ),
    "name: no UTF-8": ("gauge_all_\udcff.db", keyed(JOBS)),
    "name: two lines": ("gauge_all_1\n2.db", keyed(JOBS)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file_is_left_out_counted_and_named_once(made, caplog, case):
    name, content = HOSTILE[case]
    made.add(name, content)
    with caplog.at_level(logging.WARNING):
        assert made.scrape()["bufpool_skipped_files"] == 1
        assert made.scrape()["bufpool_skipped_files"] == 1
    escaped = repr(name)[1:-1]
    named = [record for record in caplog.records if escaped in record.getMessage()]
    assert len(named) == 2  # once by each of two endpoints
    assert all("\n" not in record.getMessage() for record in named)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e308])
def test_any_value_of_a_users_metric_is_scraped(made, value):
    name = b'["bufpool_hits", "bufpool_hits_total", {"pool": "x", "size": "2kb"}, ""]'
    made.add("counter_7.db", hostile.with_value(keyed(name), value))
    assert made.scrape()["bufpool_skipped_files"] == 0


def test_merged_file_cannot_remove_files_outside_the_directory(made, tmp_path):
    victim = tmp_path / "counter_1.db"
    victim.touch()
    meta = b'{"absorbed": ["%s"], "remainders": {}}'
    for name in (str(victim), os.path.relpath(victim, made.path), "counter_/../good.txt"):
        made.add(hostile.MERGED, merged(meta % name.encode(), keys=[JOBS]))
        assert made.scrape()["bufpool_skipped_files"] == 1
    assert victim.exists()


def nodes(path):
    """Make what may be found in a directory and is no regular file."""
    (path / "counter_1.db").mkdir()
    (path / "counter_2.db").symlink_to("/etc/passwd")
    (path / "counter_3.db").symlink_to("counter_3.db")
    os.mkfifo(path / "counter_4.db")
    (path / ".bufpool-merge-0.tmp").mkdir()
    (path / ".counter_bufpool-0.tmp").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "counter_5.db"))
    with suppress(PermissionError):  # for root only
        os.mknod(path / "counter_6.db", 0o600 | 0o020000, os.makedev(1, 8))
    return 5 + (path / "counter_6.db").exists()


def test_file_that_is_not_regular_is_skipped_and_left_alone(made):
    count = nodes(made.path)
    assert made.scrape()["bufpool_skipped_files"] == count
    before = sorted(made.path.iterdir())
    assert made.scrape()["bufpool_skipped_files"] == count
    assert sorted(made.path.iterdir()) == before


def test_obstacle_in_the_directory_does_not_stop_a_merge(made):
    nodes(made.path)
    made.add("counter_7.db", IMAGES["counter_7.db"])
    made.scrape()
    assert not (made.path / "counter_7.db").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_lock_that_is_no_file_blocks_no_process(made, make):
    (made.path / LOCK).unlink(missing_ok=True)
    make(made.path / LOCK)
    made.scrape()


@pytest.mark.parametrize("name", [hostile.OWN, hostile.MERGED, "histogram_7.db"])
def test_file_cut_off_at_any_byte_of_its_entries_is_reported(made, name):
    path, image = made.path / name, IMAGES[name]
    (used,) = HEADER.unpack_from(image)
    for length in range(used):
        path.write_bytes(image[:length])
        # prometheus_client's are empty when they are made, ours never are
        may_be_new = length < HEADER.size and name != hostile.OWN
        assert bool(read_files([path]).unreadable) != may_be_new
    made.scrape()


def test_file_that_shrinks_and_grows_while_it_is_read(made, monkeypatch):
    image, pread = IMAGES["histogram_7.db"], os.pread
    path = made.path / "histogram_7.db"

    def change(fd, count, offset):
        data = pread(fd, count, offset)
        if offset == 0 and count == HEADER.size:
            path.write_bytes(image * 2 if path.stat().st_size < len(image) else image[:40])
        return data

    path.write_bytes(image)
    monkeypatch.setattr(os, "pread", change)
    for _ in range(4):
        made.scrape()


mutations = st.lists(
    st.one_of(
        st.tuples(st.just("cut"), st.integers(0, 2400), st.just(b"")),
        st.tuples(st.just("flip"), st.integers(0, 2400), st.binary(min_size=1, max_size=1)),
        st.tuples(st.just("put"), st.integers(0, 2400), st.binary(min_size=1, max_size=16)),
        st.tuples(
            st.just("put"),
            st.integers(0, 300).map(lambda n: 8 * n),
            st.sampled_from(
                [
                    *(struct.pack("=i", n) for n in (-1, 0, 1, 8, 1 << 20, 2**31 - 1, -(2**31))),
                    *(struct.pack("=d", x) for x in (math.nan, math.inf, -1.0, 1e308)),
                ]
            ),
        ),
        st.tuples(
            st.just("insert"),
            st.integers(0, 2400),
            st.sampled_from([b'"', b"\\ud800", b"[" * 3000, b"\\u0000", b"\n", b"{}", b"1e999"]),
        ),
    ),
    min_size=1,
    max_size=4,
)


def mutate(image, changes):
    data = bytearray(image)
    for what, at, content in changes:
        if what == "cut":
            del data[at:]
        elif what == "insert":
            data[at:at] = content
        elif what == "put":
            data[at : at + len(content)] = content
        elif at < len(data):
            data[at] ^= content[0]
    return bytes(data)


@fuzzed
@given(st.sampled_from(hostile.NAMES), st.sampled_from(hostile.NAMES), mutations)
def test_mutated_file_never_breaks_a_scrape(name, model, changes):
    with hostile.directory() as made, hostile.unlogged():
        made.add(name, mutate(IMAGES[model], changes))
        made.scrape()
        made.scrape()
