"""Page, status, JSON and scrape tell whose numbers they are."""

import json
import os
import platform
import signal
import subprocess
import sys
import urllib.request

import celery

import bufpool_workers
from tests.support.scrape import scrape, value
from tests.support.waiting import wait_until


def nodes_over_the_broker(worker):
    def ask():
        answers = worker.client.control.broadcast(
            "bufpool_stats", destination=[worker.node], reply=True, timeout=5, limit=1
        )
        return answers and answers[0][worker.node]

    return {node["node"] for node in wait_until(ask, what="an answer")["nodes"]}


def test_a_worker_says_who_it_is_wherever_it_is_looked_at(start_worker, tmp_path):
    bufpool_workers.generate_key(tmp_path / "worker.key")
    worker = start_worker(
        "plugin_app:app",
        arguments=["--concurrency=1"],
        settings={
            "bufpool_metrics_port": 0,
            "bufpool_private_keys": [str(tmp_path / "worker.key")],
        },
    )
    address = f"127.0.0.1:{worker.wait_for_port()}"
    with urllib.request.urlopen(f"http://{address}/status.json", timeout=30) as response:
        (node,) = json.load(response)["nodes"]
    assert (node["node"], node["app"], node["pid"]) == (worker.node, "plugin_app", worker.pid)
    assert node["host"] == os.uname().nodename
    assert node["software"] == {
        "bufpool_workers": bufpool_workers.__version__,
        "python": platform.python_version(),
        "celery": celery.__version__,
    }
    assert node["changed"] == ["bufpool_metrics_port", "bufpool_private_keys"]
    assert node["settings"]["bufpool_private_keys"] == 1
    labels = {
        "version": bufpool_workers.__version__,
        "python": platform.python_version(),
        "celery": celery.__version__,
        "host": os.uname().nodename,
    }
    assert value(scrape(worker), "bufpool_build_info", **labels) == 1
    with urllib.request.urlopen(f"http://{address}/", timeout=30) as response:
        page = response.read().decode()
    assert f"{worker.node} - Buffer pools" in page
    shown = worker.command("bufpool", "status").stdout
    assert f"{worker.node} on {os.uname().nodename}, app plugin_app, process {worker.pid} " in shown
    assert "bufpool_metrics_port=0, bufpool_private_keys=1, all others at their defaults" in shown
    assert nodes_over_the_broker(worker) == {worker.node}


def test_nodes_of_one_directory_are_told_apart_and_leave_with_their_workers(start_worker, tmp_path):
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    first, second = (
        start_worker("plugin_app:app", arguments=["--concurrency=1"], env=env) for _ in range(2)
    )

    assert nodes_over_the_broker(first) == {first.node, second.node}
    assert second.stop(signal.SIGTERM) == 0
    assert nodes_over_the_broker(first) == {first.node}


def test_status_all_lists_the_nodes_of_this_host(start_worker, tmp_path):
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    private = start_worker("plugin_app:app", arguments=["--concurrency=1"])
    shared = [
        start_worker("plugin_app:app", arguments=["--concurrency=1"], env=env) for _ in range(2)
    ]
    command = [sys.executable, "-m", "bufpool_workers", "status", "--all", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    first = [line.split()[0] for line in done.stdout.splitlines()]
    assert first[:2] == ["node", str(tmp_path)]
    assert {worker.node for worker in shared} == set(first[2:4])
    assert private.node in first[4:]
