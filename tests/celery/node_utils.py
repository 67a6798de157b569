"""Runs beside a worker node, as its `utils` module: what pytest-celery asks of a container."""

import json
import os

import psutil


def get_running_processes_info(columns: list[str] | None = None) -> str:
    """The node's processes as JSON; the process engine names the session that is the node."""
    session = os.environ.get("TEST_ENGINE_SESSION")
    found = []
    for process in psutil.process_iter(columns or ["pid", "name", "cmdline"]):
        try:
            if session is None or os.getsid(process.pid) == int(session):
                found.append(process.info)
        except ProcessLookupError:
            continue  # it ended meanwhile
    return json.dumps(found)
