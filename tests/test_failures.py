"""Failures are printed when they happen, once."""

import os
import subprocess
import sys

import pytest

from tests.support.checkout import CHECKOUT

TESTS = """
import pytest

@pytest.fixture
def broken():
    raise OSError("of the fixture")

def test_first():
    print("printed by the first")
    assert "left" == "right"

def test_second(broken):
    pass

def test_last():
    pass
"""


def run_pytest(folder, *arguments):
    # where CI is set, pytest's summary has each failure's text once more
    env = {name: value for name, value in os.environ.items() if name not in {"CI", "BUILD_NUMBER"}}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of this project's tests start slowly
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.support.failures", "-p", "xdist"),
            *("-c", "/dev/null"),
            *("-p", "no:cacheprovider", "--rootdir", folder, *arguments, folder),
        ],
        cwd=CHECKOUT,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return run.stdout


@pytest.mark.parametrize("processes", ["0", "1"])
def test_failure_is_printed_before_the_next_test_and_once(tmp_path, processes):
    (tmp_path / "test_some.py").write_text(TESTS)
    printed = run_pytest(tmp_path, "-v", "-n", processes)
    expected = [
        "AssertionError: assert 'left' == 'right'",
        "\nprinted by the first",
        "OSError: of the fixture",
        "::test_last",
    ]
    places = [printed.find(words) for words in expected]
    assert -1 not in places, printed
    assert places == sorted(places), printed
    assert [printed.count(words) for words in expected[:3]] == [1, 1, 1], printed


def test_module_that_cannot_be_imported_is_printed_once(tmp_path):
    (tmp_path / "test_some.py").write_text("import no_such_module_of_ours")
    printed = run_pytest(tmp_path)
    assert printed.count("No module named 'no_such_module_of_ours'") == 1, printed
