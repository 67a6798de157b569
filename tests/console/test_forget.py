"""The command `forget`, of `bufpool` and of `celery bufpool`."""

import subprocess
import sys

import pytest
from prometheus_client import values

from bufpool_workers.counters import compact
from tests.support.checkout import CHECKOUT
from tests.support.counters import total
from tests.support.forked import run_forked
from tests.support.without_celery import run_bufpool


@pytest.fixture
def dead(tmp_path, monkeypatch):
    """The directory of a process that counted jobs, and is dead and merged."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def run():
        from prometheus_client import Counter  # noqa: PLC0415 - in the child only

        values.ValueClass = values.MultiProcessValue()
        Counter("jobs", "help", registry=None).inc(3)

    assert run_forked(run) == 0
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    compact(tmp_path, foreign=True)
    assert total(tmp_path, "jobs") == 3
    return tmp_path


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_forget_drops_the_metric(dead, by):
    arguments = [dead] if by == "argument" else []
    environ = {} if arguments else {"PROMETHEUS_MULTIPROC_DIR": str(dead)}
    ended = run_bufpool("forget", "jobs", *arguments, **environ)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "forgot jobs: 1 series of dead processes\n"
    assert total(dead, "jobs") == 0


def test_celery_has_the_command_too(dead):
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "bufpool", "forget", "jobs", str(dead)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "forgot jobs: 1 series of dead processes\n"
    assert total(dead, "jobs") == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("job", "no metric 'job'; did you mean 'jobs'?"),
        ("bufpool_gets", "'bufpool_gets' is a metric of bufpool's own, which stays"),
    ],
)
def test_what_can_not_be_forgotten_is_one_line(dead, name, text):
    ended = run_bufpool("forget", name, dead)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.endswith(f"{text}\n")
    assert ended.stderr.count("\n") == 1
    assert total(dead, "jobs") == 3


def test_without_a_directory_it_says_how_to_name_one():
    ended = run_bufpool("forget", "jobs")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: no metrics directory: give DIR, or set PROMETHEUS_")
    assert ended.stderr.count("\n") == 1
