"""Hundreds of deaths at random; `make storm-metrics` does thousands."""

import json
import sys

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.processes import LocalProcess


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_totals_stay_exact_whichever_process_is_killed(tmp_path, seed):
    arguments = ["--writers", "150", "--compactors", "50", "--seed", str(seed)]
    directory = tmp_path / "metrics"
    directory.mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.counters.storm",
        *arguments,
        "--directory",
        str(directory),
    ]
    # in a session of its own: should its parent die, what it leaves ends with the test
    with LocalProcess(command, log=tmp_path / "log", cwd=CHECKOUT) as run:
        assert run.wait(timeout_seconds=300) == 0, run.tail()
        outcome = json.loads(run.log())
    assert outcome["read"] == outcome["read_after_compaction"] == outcome["expected"] > 0
    assert outcome["steps_back"] == 0
    assert outcome["scrapes"] > 0
    assert outcome["compactors"] == 50
    assert outcome["most_files"] < 75
    assert outcome["files_left"] == [".bufpool-compact.lock", "counter_bufpool-merged.db"]
