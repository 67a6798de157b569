"""A scrape's text is what prometheus_client writes of the same files, whatever lies in them."""

import gzip
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder

from bufpool_workers.counters.columns import MOST_DAMAGED, Shapes, salvage
from bufpool_workers.counters.format import HEADER, Number, pack_entry
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.metrics import asgi_app, wsgi_app
from bufpool_workers.metrics.collector import Collector, make_registry
from tests.metrics.test_apps import call_asgi, get_wsgi

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
ACCEPTED = ["", OPEN_METRICS, "text/plain; version=1.0.0; escaping=allow-utf-8"]


def write(directory, name, *entries):
    image = bytearray(HEADER.size)
    for key, number in entries:
        image += pack_entry(key, number)
    HEADER.pack_into(image, 0, len(image))
    (directory / name).write_bytes(bytes(image))


def key(family, sample, help="help", **labels):  # noqa: A002 - as in a key
    return json.dumps([family, sample, labels, help]).encode()


def both(collector, accept=""):
    """The text by lines known before, and by prometheus_client from the same numbers."""
    encoder, content_type = choose_encoder(accept)
    return collector.text(encoder, content_type), encoder(collector)


def make(directory, made):
    """Write files of these kinds, entries and bytes that are cut off their ends."""
    for number, (kind, entries, cut) in enumerate(made):
        name = f"{kind}_{number}.db"
        write(directory, name, *entries)
        if cut > 20:
            os.truncate(directory / name, max(0, (directory / name).stat().st_size - cut))


values = st.floats(allow_subnormal=True) | st.sampled_from([0.0, -0.0, 1.0, 1e7, 1e300])
texts = st.text(max_size=8) | st.sampled_from(['a"b', "a\nb", "a\\b", "é", "\u2028", "0.0", "# x"])
counter_keys = st.builds(
    lambda family, label, text, suffix: key(family, family + suffix, text, label=label),
    st.sampled_from(["jobs", "mails", "bufpool_gets", "a.b", "a_b"]),
    texts,
    st.sampled_from(["help", "other help\n"]),
    st.sampled_from(["_total", "_total", "_total", "_created", ""]),
)
gauge_keys = st.builds(
    lambda family, name, label, text: key(family, family, text, **{name: label}),
    st.sampled_from(["depth", "jobs"]),
    st.sampled_from(["label", "label", "pid"]),
    texts,
    st.sampled_from(["help", "help", "other"]),
)
bucket_keys = st.builds(
    lambda of, le: key("seconds", "seconds_bucket", of=of, le=le),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["1", "1.0", "2.5", "+Inf", "x"]),
)
sum_keys = st.builds(
    lambda of, sample: key("seconds", f"seconds_{sample}", of=of),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["sum", "sum", "count", "created"]),
)
rubbish = st.binary(max_size=24)
files = st.lists(
    st.tuples(
        st.sampled_from(
            ["counter", "gauge_max", "gauge_all", "gauge_mostrecent", "histogram", "summary"]
        ),
        st.lists(
            st.tuples(
                counter_keys | gauge_keys | bucket_keys | sum_keys | rubbish,
                st.builds(Number, values, values),
            ),
            max_size=8,
        ),
        st.integers(0, 40),  # bytes that are cut off
    ),
    max_size=6,
)


@given(st.lists(files, min_size=1, max_size=3), st.sampled_from(ACCEPTED))
def test_text_equals_that_of_prometheus_client_for_any_files(states, accept):
    with tempfile.TemporaryDirectory() as folder:
        collector = Collector(None, folder)
        for made in states:  # the lines of one are known when the next one is written
            make(Path(folder), made)
            fast, slow = both(collector, accept)
            assert fast == slow


@given(st.lists(st.tuples(counter_keys | rubbish, st.builds(Number, values)), max_size=6))
def test_columns_and_entries_read_the_same(entries):
    image = b"".join(pack_entry(key, number) for key, number in entries)
    shapes = Shapes()
    for _ in range(2):  # the second time by its shape
        part = shapes.read(image, (0, len(image)), kind="counter", file="counter_1.db")
        slow = salvage(image, start=0, end=len(image), kind="counter")
        assert (part.shape.keys, repr(part.row)) == (slow.shape.keys, repr(slow.row))
        assert part.problem == slow.problem
        shapes.forget_unused()


@pytest.mark.parametrize("accept", ACCEPTED)
def test_a_scrape_follows_processes_that_come_change_and_die(workers, tmp_path, accept):
    encoder, content_type = choose_encoder(accept)
    collector = Collector(None, str(tmp_path))
    for step in range(6):
        workers.count(gets=step, hits=1)
        if step % 2:
            workers.count_and_die(gets=step)
        write(
            tmp_path,
            "counter_77.db",
            *((key("jobs", "jobs_total", n=str(n)), Number(float(n))) for n in range(step)),
        )
        collector.text(encoder, content_type)  # merges, which changes the order of the lines
        assert collector.text(encoder, content_type) == encoder(Collector(None, str(tmp_path)))


def test_a_new_series_has_the_lines_of_no_other_one_written_anew(tmp_path):
    written = []

    def encode(registry):
        metrics = list(registry.collect())
        written.extend(sample for metric in metrics for sample in metric.samples)
        return generate_latest(Given(metrics))

    class Given:
        def __init__(self, metrics):
            self.collect = lambda: iter(metrics)

    def entries(count):
        for n in range(count):
            yield key("seconds", "seconds_sum", n=str(n)), Number(1.0)
            yield key("seconds", "seconds_bucket", n=str(n), le="+Inf"), Number(2.0)

    collector = Collector(None, str(tmp_path))
    for count, new in [(50, 50), (51, 1), (51, 0), (2, 0)]:
        write(tmp_path, "histogram_7.db", *entries(count))
        written.clear()
        text = collector.text(encode, "text/plain").decode()
        labels = [sample.labels["n"] for sample in written if "n" in sample.labels]
        assert len(set(labels)) == new
        assert text.count("seconds_count{") == count


def test_metrics_of_two_kinds_leave_the_others_to_known_lines(tmp_path):
    write(tmp_path, "counter_7.db", (key("jobs", "jobs_total"), Number(3.0)))
    write(tmp_path, "histogram_7.db", (key("jobs", "jobs_sum"), Number(4.0)))
    write(tmp_path, "summary_7.db", (key("mails", "mails_sum"), Number(5.0)))
    fast, slow = both(Collector(None, str(tmp_path)))
    assert fast == slow
    assert b"\nmails_sum 5.0\n" in fast


def test_an_entry_that_makes_no_sense_is_left_out_and_the_rest_of_its_file_counts(tmp_path):
    good = key("jobs", "jobs_total"), Number(3.0)
    write(tmp_path, "counter_7.db", (b"[]", Number(1.0)), good, (b"\xff", Number(1.0)))
    text = generate_latest(make_registry(tmp_path)).decode()
    assert "\njobs_total 3.0\n" in f"\n{text}"
    assert "bufpool_skipped_files 1.0" in text
    assert "2 more" not in read_directory(tmp_path).unreadable["counter_7.db"]
    assert "(and 1 more)" in read_directory(tmp_path).unreadable["counter_7.db"]


def test_a_file_of_holes_is_read_no_further_than_a_thousand_damaged_entries(tmp_path):
    good = key("jobs", "jobs_total"), Number(3.0)
    write(tmp_path, "counter_7.db", good, *[(b"", Number(0.0))] * (MOST_DAMAGED + 1), good)
    path = tmp_path / "counter_7.db"
    with path.open("r+b") as file:
        file.truncate(24 * 10_000)
        file.write(HEADER.pack(24 * 10_000))
    snapshot = read_directory(tmp_path)
    assert snapshot.unreadable["counter_7.db"].endswith("(and 1000 more, and all that follows)")
    assert [number.value for _, _, _, number in snapshot.merged()] == [3.0]


def test_keys_of_a_damaged_file_are_not_kept(tmp_path):
    shapes = Shapes()
    path = tmp_path / "counter_7.db"
    for number in range(3):
        keys = [key("jobs", "jobs_total", of=f"{number}-{i}") for i in range(100)]
        write(tmp_path, path.name, *((each, Number(1.0)) for each in keys), (b"[]", Number(1.0)))
        read_directory(tmp_path, shapes=shapes)
    assert not any(shapes._families.values())


def test_invalid_count_is_left_out_of_its_process_file(workers, tmp_path):
    workers.count(gets=-1, hits=4)
    text = generate_latest(make_registry(tmp_path)).decode()
    assert 'bufpool_hits_total{pool="regular",size="2kb"} 4.0' in text
    assert 'bufpool_gets_total{pool="regular",size="2kb"}' not in text
    assert "bufpool_skipped_files 1.0" in text


@pytest.mark.parametrize(("old", "new"), [("all", "max"), ("max", "all"), ("sum", "mostrecent")])
def test_a_gauge_whose_mode_changed_shows_the_newest_modes_value_alone(tmp_path, old, new):
    for number, (mode, value) in enumerate([(old, 1.0), (new, 2.0)], start=1):
        name = f"gauge_{mode}_{number}.db"
        write(tmp_path, name, (key("depth", "depth"), Number(value, float(number))))
        os.utime(tmp_path / name, (number, number))
    (line,) = [
        line
        for line in generate_latest(make_registry(tmp_path)).decode().splitlines()
        if line.startswith("depth")
    ]
    assert line == ("depth 2.0" if new != "all" else 'depth{pid="2"} 2.0')


@pytest.mark.parametrize("path", ["/metrics", "/", "/status.json", "/healthz", "/absent"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_refused_on_every_path(tmp_path, path, method):
    status, headers, _ = get_wsgi(wsgi_app(tmp_path), path, method=method)
    assert status.startswith("405")
    assert dict(headers)["Allow"] == "OPTIONS, GET, HEAD"


def compressed(app):
    headers = [(b"accept-encoding", b"br, gzip")]
    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": headers}
    start, body = call_asgi(app, "http.request", **scope)
    return dict(start["headers"]).get(b"Content-Encoding"), body["body"]


def test_answers_are_compressed_unless_that_is_off(workers, tmp_path):
    workers.count(gets=3)
    plain = generate_latest(make_registry(tmp_path))
    encoding, body = compressed(asgi_app(tmp_path))
    assert (encoding, gzip.decompress(body)) == (b"gzip", plain)
    assert compressed(asgi_app(tmp_path, disable_compression=True)) == (None, plain)
