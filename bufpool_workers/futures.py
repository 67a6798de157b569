"""Executors: `ProcessPoolExecutor(initializer=start_process)`, multiprocessing.Pool, loky.

Their processes may be forked, spawned or come from a forkserver, and may be replaced after some
calls. A function below `pooled_buffer` or `sealed` runs there as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from bufpool_workers.jobs import as_job, job_name
from bufpool_workers.runtime import Job, PlainHost, current_runtime, startup
from bufpool_workers.settings import Settings

if TYPE_CHECKING:
    from bufpool_workers.metrics.server import Endpoint

__all__ = ["as_job", "start_node", "start_process"]

_HOST: Final = "bufpool_workers.futures"
_EXIT_PRIORITY: Final = 10  # before the modules that a function uses are torn down


class ExecutorHost(PlainHost):
    """The calls of an executor's functions; each function that is called is a job."""

    def called_job(self, function: Callable[..., Any]) -> Job:
        """Return a job for a function that was not called through `as_job`."""
        return Job(uuid4().hex, job_name(function), function)


def start_node(settings: Settings | Mapping[str, Any] | None = None) -> Endpoint | None:
    """Prepare the parent of executors, before it makes one; return the endpoint of its scrape.

    Its processes count in the metrics directory that PROMETHEUS_MULTIPROC_DIR names, or in a
    private one that ends with the parent; call it before metrics of prometheus_client are made.
    There is an endpoint where `metrics_port` is set. Raises SettingsError, KeyFileError and
    MetricsError for what its processes could not do their work with.
    """
    host = ExecutorHost(_HOST, settings)
    runtime = current_runtime()
    runtime.node.join(private=True)
    _add(host)
    runtime.load_late_imports()
    runtime.node.check_warm(processes=1)
    startup.check(runtime.settings)
    runtime.node.start(node=f"executor-{os.getpid()}@{os.uname().nodename}", app=None)
    return None if runtime.settings.metrics_port is None else runtime.node.serve()


def start_process(settings: Settings | Mapping[str, Any] | None = None) -> None:
    """Warm the pools of this process: the `initializer` of an executor or a pool.

    `settings` (its `initargs`) is a mapping of names with or without `bufpool_`; without one those
    of the parent count, where it was forked, else those of the environment. Raises SettingsError,
    which ends the executor.
    """
    runtime = current_runtime()
    if settings is not None or not runtime.hosts:
        _add(ExecutorHost(_HOST, settings))
    runtime.start_process()
    Finalize(None, runtime.stop_process, exitpriority=_EXIT_PRIORITY)


def _add(host: ExecutorHost) -> None:
    runtime = current_runtime()
    same = (each for each in runtime.hosts if isinstance(each, ExecutorHost))
    if not any(each.read_settings() == host.read_settings() for each in same):
        runtime.add_host(host)
