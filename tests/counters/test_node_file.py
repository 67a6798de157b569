"""The file in which a node's main process says who it is."""

import json
import os
import subprocess
import sys

import pytest

from bufpool_workers import Settings
from bufpool_workers.counters import node_file
from bufpool_workers.counters.node_file import NodeInfo, publish, read_nodes
from bufpool_workers.counters.report import Report
from bufpool_workers.counters.reporter import read_report
from tests.support.forked import run_forked

INFO = NodeInfo(
    node="shop@host",
    host="host",
    app="shop",
    pid=os.getpid(),
    started=1000.5,
    software={"bufpool_workers": "0.1.0", "python": "3.11.7"},
    settings={"bufpool_debug": True},
    changed=("bufpool_debug",),
)


@pytest.fixture
def published(tmp_path):
    publish(tmp_path, INFO)
    (path,) = tmp_path.iterdir()
    return path


def test_node_is_read_as_it_was_written(tmp_path, published):
    assert read_nodes(tmp_path) == (INFO,)
    assert read_report(tmp_path).nodes == (INFO,)
    assert published.stat().st_mode & 0o777 == 0o644


def test_node_that_starts_again_in_its_process_has_one_file(tmp_path, published):
    publish(tmp_path, INFO)
    assert list(tmp_path.iterdir()) == [published]


def test_file_ends_with_its_process(tmp_path):
    script = (
        "import sys\n"
        "from tests.counters.test_node_file import INFO, publish, read_nodes\n"
        "publish(sys.argv[1], INFO)\n"
        "assert read_nodes(sys.argv[1]) == (INFO,)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_child_of_a_fork_leaves_it(tmp_path, published):
    assert run_forked(lambda: None) == 0
    assert read_nodes(tmp_path) == (INFO,)


def test_killed_node_is_not_listed_and_the_next_one_removes_its_file(tmp_path):
    script = (
        "import os, sys\n"
        "from tests.counters.test_node_file import INFO, publish\n"
        "publish(sys.argv[1], INFO)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    assert read_nodes(tmp_path) == ()
    publish(tmp_path, INFO)
    assert not left.exists()
    assert len(read_nodes(tmp_path)) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"node": 1}', b"\xff", b"[" * 60_000]
)
def test_damaged_node_file_is_left_out(tmp_path, published, content):
    published.write_bytes(content)
    assert read_nodes(tmp_path) == ()


def test_link_and_pipe_are_left_out(tmp_path, published):
    content = published.read_bytes()
    published.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    published.symlink_to(tmp_path / "elsewhere")
    assert read_nodes(tmp_path) == ()
    published.unlink()
    os.mkfifo(published)
    assert read_nodes(tmp_path) == ()


def test_another_containers_node_is_known_by_its_lock(tmp_path, published, monkeypatch):
    monkeypatch.setattr(node_file, "current_host_id", lambda: "0" * 8)
    assert read_nodes(tmp_path) == (INFO,)
    content = published.read_bytes()
    published.unlink()
    published.write_bytes(content)  # nobody locks it
    assert read_nodes(tmp_path) == ()


def test_report_carries_it_to_other_hosts():
    report = Report(unix_seconds=0.0, pools={}, nodes=(INFO,))
    assert Report.from_dict(json.loads(json.dumps(report.as_dict()))).nodes == (INFO,)


def test_settings_in_force_show_no_key():
    private = "bps1-private-" + "ab" * 32
    public = "bps1-public-" + "cd" * 32
    settings = Settings(
        private_keys=(private, "b"),
        public_key=public,
        result_public_keys=(public,),
        single_use_url="redis://:abab@localhost",
    )
    shown = settings.in_force()
    assert (shown["bufpool_private_keys"], shown["bufpool_public_key"]) == (2, True)
    assert (shown["bufpool_result_public_keys"], shown["bufpool_result_private_keys"]) == (1, 0)
    text = json.dumps(shown)
    assert "abab" not in text
    assert "cdcd" not in text
    assert shown["bufpool_max_bytes"]["regular"] == "128MiB"
