"""`celery inspect bufpool_stats` and `celery control bufpool_trim`, answered by the main process.

It has no channel to the processes that run tasks: they meet in the metrics directory.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery.worker.control import control_command, inspect_command

from bufpool_workers import counters
from bufpool_workers._environ import VARIABLE
from bufpool_workers.errors import MetricsError
from bufpool_workers.runtime import current_runtime

STATS = "bufpool_stats"
TRIM = "bufpool_trim"


def register() -> None:
    """Register the commands for this process's workers and for its `celery` command."""
    inspect_command(name=STATS)(bufpool_stats)
    control_command(name=TRIM)(bufpool_trim)


def bufpool_stats(state: Any) -> dict[str, Any]:  # noqa: ARG001 - Celery's signature
    """Return the pools and processes of the node; `celery bufpool status --json` shows the same."""
    try:
        return counters.read_report(_directory(), namespace=_namespace()).as_dict()
    except MetricsError as error:
        return {"error": str(error)}


def bufpool_trim(state: Any) -> dict[str, Any]:
    """Ask each process to trim idle memory above its warm levels when its next task ends."""
    try:
        directory = _directory()
        pids = {os.getpid(), *state.consumer.pool.info.get("processes", ())}
        asked = counters.ask_to_trim(
            directory, pids=pids, namespace=_namespace(), unix_seconds=time.time()
        )
    except MetricsError as error:
        return {"error": str(error)}
    return {"ok": f"asked {asked} processes to trim their pools when their next task ends"}


def _directory() -> Path:
    directory = current_runtime().node.metrics_directory
    if directory is None:
        raise MetricsError(
            f"this node counts in no metrics directory; start it with `celery worker`, or set "
            f"{VARIABLE}"
        )
    return directory


def _namespace() -> str:
    return current_runtime().settings.metrics_namespace
