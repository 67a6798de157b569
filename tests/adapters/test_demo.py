"""The demo on other job systems: every result and every number is right."""

import subprocess
import sys

import pytest

from tasks.demo.hosts import HOSTS
from tests.support.checkout import CHECKOUT


def run_demo(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tasks.demo", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("host", HOSTS)
def test_demo_is_whole(host):
    done = run_demo(host)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "80 jobs in " in done.stdout
    assert "0 wrong; 120 buffers lent, 120 given back" in done.stdout


def test_unknown_host_is_told_which_there_are():
    done = run_demo("celry")
    assert done.returncode == 1
    assert "HOST=celry: there is dramatiq, rq, huey, futures; without it, Celery" in done.stdout
