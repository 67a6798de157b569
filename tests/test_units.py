"""How sizes, labels, percentages and ages are read and written."""

import pytest

from bufpool_workers import units
from bufpool_workers.units import GiB, KiB, MiB, label_bytes, size_label


@pytest.mark.parametrize(
    ("nbytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024**2, "10 MiB"),
        (5 * 1024**3 + 1024**2 * 300, "5.3 GiB"),
        (3000 * 1024**4, "3000 TiB"),
    ],
)
def test_sizes(nbytes, expected):
    assert units.format_bytes(nbytes) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [("4kb", "4 KiB"), ("16mb", "16 MiB"), ("100b", "100 B"), ("larger", "larger"), ("", "")],
)
def test_labels(label, expected):
    assert units.format_label(label) == expected


@pytest.mark.parametrize(
    ("nbytes", "label"),
    [(0, "0b"), (100, "100b"), (1536, "1536b"), (4 * KiB, "4kb"), (3 * MiB, "3mb"), (GiB, "1gb")],
)
def test_labels_name_sizes(nbytes, label):
    assert size_label(nbytes) == label
    assert label_bytes(label) == nbytes


@pytest.mark.parametrize("text", ["larger", "", "-1kb", "kb", "1kb ", "1tb", "\u0661kb"])
def test_other_text_is_no_label(text):
    assert label_bytes(text) is None


@pytest.mark.parametrize(
    ("percentage", "expected"),
    [
        (None, "none yet"),
        (0.0, "0 %"),
        (37.54, "37.5 %"),
        (99.99, "99.9 %"),
        (100.0, "100 %"),
        (10.0, "10 %"),
    ],
)
def test_percentages_reach_100_when_all_of_it_is_there(percentage, expected):
    assert units.format_percentage(percentage) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (61, "1 min 1 s"),
        (3 * 3600 + 300, "3 h 5 min"),
        (49 * 3600, "2 d 1 h"),
    ],
)
def test_ages(seconds, expected):
    assert units.format_age(seconds) == expected
