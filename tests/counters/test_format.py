import math
import os
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bufpool_workers.counters._values import add_rows
from bufpool_workers.counters.format import (
    HEADER,
    DamagedFileError,
    Number,
    add_up,
    check_key,
    merge_numbers,
    pack_entry,
    parse_key,
    read_used,
    unpack_entries,
)

FLOATS = st.lists(st.floats(min_value=0, max_value=1e300), min_size=1, max_size=30)


def merge(values):
    return [number.value for number in merge_numbers("counter", [Number(v) for v in values])]


@given(FLOATS, st.randoms(use_true_random=False), st.integers(0, 30))
def test_neither_order_nor_a_compaction_changes_a_sum(values, random, split):
    expected = merge(values)[0]
    shuffled = random.sample(values, len(values))
    dead, living = shuffled[:split], shuffled[split:]
    compacted = merge(dead) if dead else []
    assert merge([*compacted, *living])[0] == expected == math.fsum(values)


@given(FLOATS, st.floats(min_value=0, max_value=1e300))
def test_a_sum_never_falls_when_a_value_rises(values, more):
    assert merge([*values, more])[0] >= merge(values)[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([math.inf, 1.0], math.inf), ([1e308, 1e308], math.inf), ([-math.inf, -1.0], -math.inf)],
)
def test_values_beyond_floats_add_up_as_they_do_in_python(values, expected):
    assert merge(values) == [expected]


def test_infinities_of_both_signs_are_no_number():
    assert math.isnan(merge([math.inf, -math.inf])[0])


@given(
    st.integers(0, 6).flatmap(
        lambda width: st.lists(
            st.lists(
                st.floats() | st.integers(-(2**54), 2**54).map(float) | st.sampled_from([2.0**53]),
                min_size=width,
                max_size=width,
            ),
            max_size=8,
        )
    )
)
def test_rows_add_up_as_their_columns_do(rows):
    expected = [add_up(column) for column in zip(*rows, strict=True)]
    assert repr(add_rows([array("d", row) for row in rows], add_up)) == repr(expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ones_that_a_float_would_lose_are_added_to_a_sum(sign):
    rows = [array("d", [sign * value]) for value in (2.0**53 - 1, 1.0, 1.0, 1.0)]
    assert add_rows(rows, add_up) == [sign * (2.0**53 + 2)]


@pytest.mark.parametrize("rows", [[[1.0], [1.0, 2.0]], [[1.0, 2.0], [1.0]]])
def test_rows_of_different_lengths_are_refused(rows):
    with pytest.raises(ValueError, match="one length"):
        add_rows([array("d", row) for row in rows], add_up)


@pytest.mark.parametrize("row", [array("f", [1.0]), array("q", [1])])
def test_rows_of_other_numbers_are_refused(row):
    with pytest.raises(ValueError, match="float64"):
        add_rows([row], add_up)


@given(st.lists(st.tuples(st.binary(max_size=40), st.floats(allow_nan=False)), max_size=10))
def test_entries_come_back_as_they_were_packed(entries):
    packed = b"".join(pack_entry(key, Number(value, 1.5)) for key, value in entries)
    read = list(unpack_entries(packed, start=0, end=len(packed)))
    assert read == [(key, (value, 1.5)) for key, value in entries]


@given(st.binary(max_size=200), st.integers(0, 300))
def test_damage_is_reported_never_read(data, end):
    try:
        for key, _ in unpack_entries(data, start=0, end=end):
            parse_key(key)
    except DamagedFileError:
        pass


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"{}",
        b"[]",
        b"[1, 2, {}, 3]",
        b'["a", "a", [], "help"]',
        b'["a", "a", {"l": 1}, "help"]',
        b'["", "a", {}, "help"]',
        b'["a", "", {}, "help"]',
        b'["a", "a", {"l": "\\ud800"}, "help"]',
        b'["a", "a", {"\\udfff": "v"}, "help"]',
        b'["a", "a", {}, "help"',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_key_that_is_no_metric_is_refused(key):
    with pytest.raises(DamagedFileError):
        parse_key(key)


@pytest.mark.parametrize(
    "key",
    [
        b'["s3_objects_per_bucket", "s3_objects_per_bucket", {}, "help"]',
        b'["a", "a_total", {"le": "ACME GmbH"}, "help"]',
        b'["http.requests", "http.requests_total", {"k8s.pod": "x", "": "y"}, ""]',
        '["größe", "größe", {"straße": "ü"}, "help"]'.encode(),
    ],
)
def test_key_that_prometheus_client_writes_is_read(key):
    check_key(key, kind="counter")
    check_key(key, kind="gauge_all")


@pytest.mark.parametrize("le", ['"wide"', '""', '"0x1"'])
def test_bound_of_a_histograms_bucket_is_a_number(le):
    key = b'["a", "a_bucket", {"le": %s}, "help"]' % le.encode()
    check_key(key, kind="counter")
    with pytest.raises(DamagedFileError):
        check_key(key, kind="histogram")
    check_key(b'["a", "a_bucket", {"le": "+Inf"}, "help"]', kind="histogram")


@pytest.mark.parametrize("before", [0, 8, 4096])
@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_grows_while_it_is_read_is_whole(tmp_path, monkeypatch, before, whole):
    path = tmp_path / "counter_1.db"
    path.write_bytes(HEADER.pack(min(before, 8)).ljust(before, b"\0")[:before])
    entries = b"".join(pack_entry(str(number).encode()) for number in range(300))
    fstat = os.fstat

    def grow_after(fd):
        status = fstat(fd)
        path.write_bytes((HEADER.pack(8 + len(entries)) + entries).ljust(16384, b"\0"))
        return status

    monkeypatch.setattr(os, "fstat", grow_after)
    with path.open("rb") as file:
        data, used = read_used(file.fileno(), whole=whole)
    assert (data[8:used], used) in {(b"", 0), (entries, 8 + len(entries))}
