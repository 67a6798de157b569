"""Releases side by side in one directory; released/README.md says who wrote the fixtures."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bufpool_workers
from bufpool_workers.counters import ask_to_trim, compact, forget
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics.collector import make_registry
from tests.support.checkout import CHECKOUT
from tests.support.counters import Workers, names, total

RELEASED = Path(__file__).with_name("released")
BEFORE = "b4170fa"
THIS = Path(bufpool_workers.__file__).parents[1]
MERGED = "counter_bufpool-merged.db"
GETS = {"merged": 2.0**53 + 302, "interrupted": 330}
HITS = {"merged": 15, "interrupted": 6}


@pytest.fixture(params=GETS)
def released(request, tmp_path):
    directory = tmp_path / request.param
    shutil.copytree(RELEASED / request.param, directory)
    return directory


def test_each_number_of_an_earlier_release_counts_once(released):
    assert total(released) == GETS[released.name]
    assert total(released, "bufpool_hits") == HITS[released.name]
    assert read_directory(released).unreadable == {}


def test_files_of_both_releases_are_merged_without_loss(released):
    workers = Workers(released)
    workers.count_and_die(gets=2, hits=7)
    living = workers.count(gets=4, hits=1)
    expected = GETS[released.name] + 6, HITS[released.name] + 8
    for _ in range(2):
        assert (total(released), total(released, "bufpool_hits")) == expected
        assert compact(released).unmerged == {}
    assert names(released) == {MERGED, living.path.name}
    workers.end()


@pytest.fixture(scope="module")
def release_before(tmp_path_factory):
    """The package of the release before, from the history."""
    if not shutil.which("git"):
        pytest.skip("no git, whose history has the release before")
    git = ["git", "archive", BEFORE, "bufpool_workers"]
    archive = subprocess.run(git, cwd=CHECKOUT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no history with {BEFORE}: {archive.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("before")
    unpack = [shutil.which("tar"), "-x", "-C", folder]
    subprocess.run(unpack, input=archive.stdout, check=True)
    return folder


TURN = """
import sys
from pathlib import Path
from bufpool_workers import counters
from tests.support.counters import Workers, total
package, directory, gets, merges = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
assert Path(counters.__file__).is_relative_to(package)
living = Workers(directory)
living.count(gets=gets)
Workers(directory).count_and_die(gets=gets)
if merges:
    print(total(directory), end=" ")
    assert not counters.compact(directory).unmerged
print(total(directory), flush=True)
sys.stdin.read()
"""


def test_two_releases_count_and_merge_in_turns(release_before, tmp_path):
    gets, living = 1, []
    try:
        for package in (release_before, THIS) * 2:
            for merges in (0, 1):
                command = [sys.executable, "-c", TURN, *map(str, (package, tmp_path, gets, merges))]
                living.append(
                    subprocess.Popen(
                        command,
                        cwd=package,
                        env=os.environ | {"PYTHONPATH": f"{package}:{CHECKOUT}"},
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                    )
                )
                counted = 2.0 * (2 * gets - 1)
                told = living[-1].stdout.readline().split()
                assert [float(number) for number in told] == [counted] * (1 + merges)
                gets *= 2
    finally:
        for process in living:
            process.communicate()
    assert compact(tmp_path).unmerged == {}
    assert total(tmp_path) == counted
    assert names(tmp_path) == {MERGED}


def newer(path, known):
    data = path.read_bytes()
    assert data.count(known) == 1
    path.write_bytes(data.replace(known, known[:-1] + b"\x63"))
    return path


def skipped(directory):
    return make_registry(directory).get_sample_value("bufpool_skipped_files")


def test_a_file_of_a_newer_version_is_left_alone_named_and_counted(workers, tmp_path):
    path = newer(workers.count_and_die(gets=100), b"bufpool\x03")
    workers.count_and_die(gets=1)
    before = path.read_bytes()
    reason = "it is of the format's version 99, and this release knows 3"
    for _ in range(2):
        assert total(tmp_path) == 1
        assert read_directory(tmp_path).unreadable == {path.name: reason}
        assert skipped(tmp_path) == 1
        assert compact(tmp_path).unmerged == {path.name: reason}
    assert names(tmp_path) == {path.name, MERGED}
    assert path.read_bytes() == before


def test_a_merged_file_of_a_newer_version_is_left_alone_named_and_counted(workers, tmp_path):
    workers.count_and_die(gets=100)
    compact(tmp_path)
    path = newer(tmp_path / MERGED, b"bufpool\x02")
    dead = workers.count_and_die(gets=1)
    before = path.read_bytes()
    reason = "it is of the format's version 99, and this release knows 2"
    assert total(tmp_path) == 1
    assert read_directory(tmp_path).unreadable == {MERGED: reason}
    assert skipped(tmp_path) == 1
    assert compact(tmp_path).unmerged == {MERGED: reason}
    with pytest.raises(MetricsError, match=f"{MERGED}: {reason}$"):
        forget(tmp_path, "jobs")
    assert names(tmp_path) == {MERGED, dead.name}
    assert path.read_bytes() == before


def test_a_living_process_of_a_newer_version_is_not_asked_to_trim(workers, tmp_path):
    path = newer(workers.count(gets=1).path, b"bufpool\x03")
    before = path.read_bytes()
    assert ask_to_trim(tmp_path, pids=[os.getpid()], unix_seconds=1.0) == 0
    assert path.read_bytes() == before
    assert skipped(tmp_path) == 1
