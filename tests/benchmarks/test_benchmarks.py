"""The benchmarks' own arithmetic, reports and children; no figure of theirs is looked at."""

import json
import os
from pathlib import Path

import pytest

from tests.benchmarks import record
from tests.benchmarks.report import Row, Table, duration
from tests.benchmarks.timing import Case, Ratios, Timing, in_process, measure, percentile

REPEATED = Timing("ours", [1.0, 2.0, 4.0, 8.0, 16.0])
RIVAL = Timing("theirs", [2.0, 4.0, 8.0, 16.0, 32.0])


def a_table() -> Table:
    table = Table("lending", "lending against bytearrays", notes=["a note"])
    for at in (64, 4096):
        table.add(REPEATED, RIVAL, at=at, reach=0.6)
    return table


def test_a_ratio_is_that_of_the_rounds_not_of_the_medians():
    slow_day = Timing("ours", [1.0, 10.0, 100.0])
    rival = Timing("theirs", [2.0, 5.0, 200.0])
    assert slow_day.ratios(rival).quartiles[1] == 0.5


def test_the_interval_of_a_median_holds_it_and_leaves_out_the_extremes():
    low, high = Ratios([float(n) for n in range(25)]).median_interval
    assert (low, high) == (7.0, 17.0)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(share, expected):
    assert percentile(range(100, 0, -1), share) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(2.5, "2.5 s"), (0.0042, "4.2 ms"), (1.5e-6, "1.5 µs"), (7.9e-8, "79 ns"), (0.0, "0 ns")],
        (-1.36e-5, "-13.6 µs"),
    ],
)
def test_durations_are_written_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def test_cases_are_measured_in_processes_of_their_own():
    def here() -> dict[str, object]:
        return {"check": check}

    def check() -> None:
        assert os.getpid() != parent

    parent = os.getpid()
    timings = measure(
        [Case("one", "check()", here), Case("other", "check()", here)], rounds=3, seconds=1e-4
    )
    assert [(timing.name, len(timing.seconds)) for timing in timings] == [("one", 3), ("other", 3)]


def test_cases_of_one_name_keep_their_own_timings():
    quick, slow = measure(
        [Case("same", "pass"), Case("same", "sum(range(10_000))")], rounds=3, seconds=1e-4
    )
    assert len(quick.seconds) == len(slow.seconds) == 3


def test_a_case_that_fails_is_named(capfd):
    with pytest.raises(ChildProcessError, match="broken: its process failed"):
        measure([Case("broken", "1 / 0")], rounds=3)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_function_runs_in_a_process_of_its_own():
    assert in_process(os.getpid) != os.getpid()


def test_a_record_gives_back_the_tables_that_were_saved(tmp_path):
    tables = [a_table()]
    record.save(tmp_path / "new", tables, machine={"kernel": "6.1"})
    assert record.load(tmp_path / "new") == tables
    assert json.loads((tmp_path / "new" / "results.json").read_text())["machine"] == {
        "kernel": "6.1"
    }


def test_a_record_is_readable_as_markdown(tmp_path):
    record.save(tmp_path, [a_table()], machine={"packages": {"numpy": "2.0", "celery": "5.6"}})
    text = (tmp_path / "tables.md").read_text()
    assert "- packages: numpy 2.0, celery 5.6" in text
    assert "| ours | theirs | 4 s | 8 s | 0.5 |  | 0.6 |" in text
    assert "- a note" in text


def test_what_is_no_time_has_its_own_unit_and_no_spread():
    row = Row("ours", "theirs", 2.0**20, 2.0**21, 0.5, 0.5, 0.5, unit="bytes")
    assert row.cells == ("ours", "theirs", "1.0 MiB", "2.0 MiB", "0.5", "", "")


def test_tables_of_several_pythons_are_joined_row_by_row():
    from tests.benchmarks.pythons import join  # noqa: PLC0415

    (table,) = join({"3.11": [a_table()], "3.12": [a_table()]})
    assert [row.what for row in table.rows] == [
        "ours, Python 3.11",
        "ours, Python 3.12",
    ] * 2
    assert [row.at for row in table.rows] == [64, 64, 4096, 4096]


@pytest.mark.parametrize("name", ["lending", "pipeline", "scrapes"])
def test_pictures_are_drawn_of_what_was_measured(name, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="pictures need the extra `bench`")
    from tests.benchmarks.plots import draw  # noqa: PLC0415

    table = a_table()
    table.name = name
    (picture,) = draw(tmp_path, [table, Table("other", "not drawn")])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 120_000
