"""Flower: its plugin of the `celery` command imports prometheus_client before any app."""

import json
import sys
import urllib.error
import urllib.request

from tests.neighbours.needs import needs
from tests.support.ports import free_port
from tests.support.processes import LocalProcess
from tests.support.waiting import wait_until

pytestmark = needs("flower")


def test_a_worker_with_flower_installed_and_flower_beside_it(home, tmp_path):
    worker = home.start("home_app:app", arguments=("--task-events",))
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "home_app:app", "flower"]
    command += ["--address=127.0.0.1", f"--port={port}"]
    env = home.env(worker, {}) | {"FLOWER_UNAUTHENTICATED_API": "true"}
    url = f"http://127.0.0.1:{port}"

    def get(path):
        try:
            with urllib.request.urlopen(url + path, timeout=10) as answer:  # noqa: S310 - loopback
                return answer.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return b""

    with LocalProcess(command, log=tmp_path / "flower", cwd=worker.folder, env=env) as flower:
        flower.wait_until(
            lambda: worker.node.encode() in get("/api/workers?refresh=1"),
            what="Flower knows the worker",
            timeout_seconds=60,
        )
        home.check(worker)

        def seen():
            tasks = json.loads(get("/api/tasks") or "{}").values()
            return {(task["name"], task["state"]) for task in tasks}

        wait_until(
            lambda: {("home_tasks.login", "SUCCESS"), ("home_tasks.fail", "FAILURE")} <= seen(),
            what="Flower saw the tasks",
        )
        shown = b"".join(get(path) for path in ("/api/tasks", "/tasks", "/metrics"))
        assert b"flower_events_total" in shown
        assert b"bps1." in shown  # the sealed argument, as it lay in the broker
        home.check_nothing_secret(shown + flower.log().encode())
