"""Executors: `ProcessPoolExecutor(initializer=start_process)`, multiprocessing.Pool, loky.

Their processes may be forked, spawned or come from a forkserver, and may be replaced after some
calls. A function below `pooled_buffer` or `sealed` runs there as it is.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, cast
from uuid import uuid4

from bufpool_workers.runtime import Job, PlainHost, current_job, current_runtime
from bufpool_workers.settings import Settings
from bufpool_workers.signatures import is_async, name_of, unwrapped

if TYPE_CHECKING:
    from bufpool_workers.metrics.server import Endpoint

__all__ = ["as_job", "start_node", "start_process"]

P = ParamSpec("P")
T = TypeVar("T")

_HOST: Final = "bufpool_workers.futures"
_EXIT_PRIORITY: Final = 10  # before the modules that a function uses are torn down


class ExecutorHost(PlainHost):
    """The calls of an executor's functions; each function that is called is a job."""

    def called_job(self, function: Callable[..., Any]) -> Job:
        """Return a job for a function that was not called through `as_job`."""
        return _job(function)


def start_node(settings: Settings | Mapping[str, Any] | None = None) -> Endpoint | None:
    """Prepare the parent of executors, before it makes one; return the endpoint of its scrape.

    Its processes count in the metrics directory that PROMETHEUS_MULTIPROC_DIR names, or in a
    private one that ends with the parent; call it before metrics of prometheus_client are made.
    There is an endpoint where `metrics_port` is set. Raises SettingsError and MetricsError.
    """
    host = ExecutorHost(_HOST, settings)
    runtime = current_runtime()
    runtime.node.join(private=True)
    _add(host)
    runtime.load_late_imports()
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


class as_job(Generic[P, T]):  # noqa: N801 - a wrapper, and a decorator
    """A function each of whose calls is a job: `executor.submit(as_job(resize), path)`.

    For functions that take buffers themselves: what a call still holds when it is over is taken
    back, with a warning. Of use as a decorator, too. `name` is what `seal` needs for its tokens.
    Raises TypeError for a coroutine function, which an executor does not await.
    """

    __wrapped__: Callable[P, T]

    def __init__(self, function: Callable[P, T]) -> None:
        if not callable(function):
            raise TypeError(f"as_job is for functions, not {type(function).__name__}")
        if is_async(function):
            raise TypeError(f"as_job: {name_of(function)}: an executor awaits no coroutine")
        functools.update_wrapper(self, function)
        self._user_function = unwrapped(function)
        self.name = _job_name(self._user_function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function as a job, inside the one that runs."""
        runtime = current_runtime()
        job = Job(uuid4().hex, self.name, self._user_function)
        runtime.begin_job(job, nested=current_job() is not None)
        try:
            return self.__wrapped__(*args, **kwargs)
        finally:
            runtime.end_job(job)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Return the name that this is found by, as a decorator's work, or how to make it."""
        found: Any = sys.modules.get(self.__module__)
        for part in cast("str", self.__qualname__).split("."):  # type: ignore[attr-defined]
            found = getattr(found, part, None)
        return self.__qualname__ if found is self else (as_job, (self.__wrapped__,))


def _job(function: Callable[..., Any]) -> Job:
    return Job(uuid4().hex, _job_name(function), function)


def _job_name(function: Callable[..., Any]) -> str:
    """Return module and name of a function, the same in every process of the executor."""
    module = getattr(function, "__module__", None) or "__main__"
    # what a spawned process calls its parent's main module
    return f"{'__main__' if module == '__mp_main__' else module}.{name_of(function)}"
