"""A few seconds of the soak; `make soak` does minutes, with every fault."""

import sys

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.processes import LocalProcess

FAULTS = ("child killed", "child stopped", "Redis paused")


@pytest.mark.timeout(200)
def test_two_nodes_lose_nothing_under_load_and_faults(tmp_path):
    command = [sys.executable, "-m", "tests.soak", "--seconds", "6", "--folder", str(tmp_path)]
    command += ["--layout", "one directory", *(f"--fault={name}" for name in FAULTS)]
    with LocalProcess(command, log=tmp_path.with_suffix(".log"), cwd=CHECKOUT) as run:
        assert run.wait(timeout_seconds=150) == 0, run.tail()
        assert "| lost by the workers | 0 |" in run.log()
