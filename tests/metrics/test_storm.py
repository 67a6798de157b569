"""Hundreds of deaths at random; `storm.py` alone does thousands (make soak)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_totals_stay_exact_whoever_is_killed(tmp_path, seed):
    storm = Path(__file__).with_name("storm.py")
    arguments = ["--writers", "150", "--compactors", "50", "--seed", str(seed)]
    run = subprocess.run(
        [sys.executable, storm, *arguments, "--directory", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    outcome = json.loads(run.stdout)
    assert outcome["read"] == outcome["read_after_compaction"] == outcome["expected"] > 0
    assert outcome["steps_back"] == 0
    assert outcome["scrapes"] > 0
    assert outcome["compactors"] == 50
    assert outcome["most_files"] < 75
    assert outcome["files_left"] == [".bufpool-compact.lock", "counter_bufpool-merged.db"]
    assert run.returncode == 0
