"""`celery bufpool status` and `top`, as a person calls them beside a running worker."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

from bufpool_workers.counters.report import Report
from tests.support.waiting import wait_until

NAMED = {"TEST_APP_NAME": f"status-{os.getpid()}"}


@pytest.fixture
def worker(start_worker):
    worker = start_worker("named_app:app", arguments=["--concurrency=2"], env=NAMED)
    for _ in range(3):
        worker.run("pool_tasks.borrow", 4096, 2)
    return worker


def rows(text):
    """The tables' lines, as a script would split them."""
    return [line.split() for line in text.splitlines()]


def test_status_finds_the_worker_beside_it_and_prints_plain_lines(worker):
    done = worker.command("bufpool", "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{worker.node}: 2 processes, 2 warm, hit rate 100%, ")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    found = rows(done.stdout)
    (header,) = [row for row in found if row[:2] == ["pool", "size"]]
    (row,) = [row for row in found if row[:2] == ["regular", "4kb"]]
    told = dict(zip(header, row, strict=True))
    assert (told["gets"], told["misses"], told["hit_rate"]) == ("6", "0", "100%")
    (pids,) = [row for row in found if row[:2] == ["pid", "age"]]
    assert len(found) - found.index(pids) == 3


def test_status_gives_json_for_programs(worker):
    done = worker.command("bufpool", "status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    ((name, told),) = json.loads(done.stdout).items()
    assert name == worker.node
    assert Report.from_dict(told).pools["regular"].sizes["4kb"].gets == 6


def test_status_reads_the_directory_that_is_set(worker, tmp_path):
    done = worker.command("bufpool", "status", env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    assert done.returncode == 0
    assert done.stdout.startswith(f"{tmp_path}: 0 processes, 0 warm, hit rate -, ")


def test_status_asks_a_node_of_another_host_over_the_broker(start_worker, tmp_path):
    env = NAMED | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    worker = start_worker("named_app:app", arguments=["--concurrency=1"], env=env)
    worker.run("pool_tasks.borrow", 4096, 2)
    elsewhere = {"PROMETHEUS_MULTIPROC_DIR": ""}  # this process sees no directory of its own
    # one that is named is not waited for any longer than it takes to answer
    for arguments in (["--timeout=5"], ["--timeout=30", "--node", worker.node]):
        done = worker.command("bufpool", "status", *arguments, env=elsewhere)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{worker.node}: 1 process, 1 warm, ")
    missing = worker.command("bufpool", "status", "--node=nobody@nowhere", env=elsewhere)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no answer from nobody@nowhere within 1 s" in missing.stderr
    assert "set PROMETHEUS_MULTIPROC_DIR as it is set for the workers" in missing.stderr


def test_without_an_app_that_was_set_up_status_says_that_it_shows_all_of_the_host(worker):
    command = [sys.executable, "-m", "celery", "bufpool", "status"]
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": ""}
    done = subprocess.run(
        command, env=env, cwd=worker.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert f"{worker.node}: " in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("the workers of every app on this host: give -A an app")


def test_a_directory_that_is_gone_is_named_on_stderr(worker, tmp_path):
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "gone")}
    for command in ("status", "top"):
        done = worker.command("bufpool", command, env=env)
        assert (done.returncode, done.stdout) == (1, "")
        assert str(tmp_path / "gone") in done.stderr


def test_a_broker_that_is_away_is_named_without_its_password(worker):
    env = {"CELERY_BROKER_URL": "redis://:hunter2@127.0.0.1:1/0", "TEST_APP_NAME": "nobody"}
    done = worker.command("bufpool", "status", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "broker redis://:**@127.0.0.1:1/0: " in done.stderr
    assert "hunter2" not in done.stderr


def test_top_in_a_pipe_prints_each_look_whole(worker):
    done = worker.command("bufpool", "top", "--count=2", "--interval=0.1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"{worker.node}: ") == 2
    assert "gets_s" in done.stdout.partition(worker.node)[2]
    assert "\x1b" not in done.stdout


@contextmanager
def on_terminal(worker, command, *, columns):
    """Run a command on a terminal of its own, and give the other side of it."""
    ours, theirs = pty.openpty()
    size = {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "named_app", "bufpool", command],
        cwd=worker.folder,
        env={**os.environ, **worker.env, **size},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        yield ours
        assert process.wait(20) == 0
    os.close(ours)


def read_rest(terminal):
    seen = b""
    try:
        while chunk := os.read(terminal, 65536):
            seen += chunk
    except OSError:  # Linux says so when the other side has closed
        pass
    return seen


def test_status_on_a_narrow_terminal_keeps_its_numbers_whole(worker):
    with on_terminal(worker, "status", columns=30) as terminal:
        shown = re.sub(r"\x1b\[[\d;]*m", "", read_rest(terminal).decode())
    found = rows(worker.command("bufpool", "status").stdout)
    (row,) = [row for row in found if row[:2] == ["regular", "4kb"]]
    assert row in rows(shown)


def test_top_on_a_terminal_ends_with_q_and_leaves_it_as_it_was(worker):
    with on_terminal(worker, "top", columns=120) as terminal:
        seen = b""

        def shows(pattern):
            nonlocal seen
            seen += os.read(terminal, 65536)
            return re.search(pattern, seen)

        wait_until(lambda: shows(rb"(?s)misses_s.*4kb +\d[^\n]* 6\b"), what="a second frame")
        os.write(terminal, b"q")
        seen += read_rest(terminal)
    assert seen.index(b"q ends") < seen.index(b"misses_s")
    assert seen.count(b"\x1b[?1049h") == seen.count(b"\x1b[?1049l") == 1
    assert b"Traceback" not in seen
