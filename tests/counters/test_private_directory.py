"""Private metrics directories: found by this host's processes, and ended by their worker alone."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bufpool_workers.counters import private_directory
from bufpool_workers.counters.private_directory import NodeManifest

SIGN = {"node": "shop@host", "app": "shop", "pid": 7}


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setattr(private_directory, "_SHM", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def make(base):
    opened = []

    def directory(name, *, locked=True):
        path = base / f"bufpool-metrics-{name}"
        path.mkdir(mode=0o700)
        if locked:
            opened.append(os.open(path, os.O_RDONLY))
            fcntl.flock(opened[-1], fcntl.LOCK_EX)
        return path

    yield directory
    for fd in opened:
        os.close(fd)


def found():
    return dict(private_directory.discover())


def test_a_signed_directory_that_its_worker_holds_is_found_once(make):
    path = make("a")
    (path / "node.json").write_text(json.dumps(SIGN))
    assert found() == {path: NodeManifest("shop@host", "shop", 7)}


def test_those_of_the_dead_and_of_starting_workers_are_passed_over(make):
    (make("dead", locked=False) / "node.json").write_text(json.dumps(SIGN))
    make("starting")
    assert found() == {}


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "[" * 4096, '{"node": 1}'),
        *('{"node": "a", "app": 1, "pid": "x"}', '{"node": "a", "app": 1, "pid": 7}'),
        *(
            '{"node": "a", "app": "b", "pid": 1e999}',
            '{"node": "\\u001b[2J", "app": "b", "pid": 7}',
        ),
    ],
)
def test_a_sign_that_makes_no_sense_is_passed_over(make, text):
    (make("odd") / "node.json").write_text(text)
    assert found() == {}


def test_pipe_instead_of_a_manifest_does_not_block(make):
    os.mkfifo(make("pipe") / "node.json")
    (make("link") / "node.json").symlink_to("/etc/hostname")
    assert found() == {}


EXITS = """
import os, sys
from pathlib import Path
from bufpool_workers.counters import private_directory
private_directory._SHM = Path(sys.argv[1])
path = private_directory.make()
if os.fork() == 0:
    sys.exit()
assert os.wait()[1] == 0
assert path.exists()
print(path)
"""


def test_it_outlives_the_exit_of_a_child_and_ends_with_its_worker(tmp_path):
    command = [sys.executable, "-c", EXITS, tmp_path]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    path = Path(done.stdout.strip())
    assert path.parent == tmp_path
    assert not path.exists()
