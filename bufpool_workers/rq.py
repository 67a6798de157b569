"""RQ: `rq worker --worker-class bufpool_workers.rq.SimpleWorker`, and `Job` for its queues.

Settings are those of the environment (BUFPOOL_WARM), or what `configure` was given before.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from bufpool_workers.errors import SettingsError
from bufpool_workers.runtime import Job as RunningJob
from bufpool_workers.runtime import PlainHost, current_job, current_runtime, startup
from bufpool_workers.runtime.job import REPLY_HEADER, Reply
from bufpool_workers.runtime.job_host import needs_extra, uses_in
from bufpool_workers.runtime.leading import NodeOfCommand, OwnNode, lead
from bufpool_workers.runtime.shared_node import SharedNode
from bufpool_workers.sealing.calls import CallCheck
from bufpool_workers.sealing.parameters import called_parameters, innermost
from bufpool_workers.settings import Settings

with needs_extra("rq"):
    import rq
    from rq import job as rq_job
    from rq.job import Job as _StockJob
    from rq.utils import import_attribute, import_job_class

__all__ = ["Job", "SimpleWorker", "SpawnWorker", "Worker"]

logger = logging.getLogger(__name__)

_HORSES_TO_MERGE: Final = 50
_CALL: Final = re.compile(r"([\w.]+\.\w+)\(.*\)", re.DOTALL)


class Job(_StockJob):
    """A job that is not stored with a sealed argument that is no token, and that shows no call.

    Producers give it to their queues: `Queue(job_class=Job)`. All that stores a job asks for its
    `data` first, which is checked when it is made: NotSealed, DamagedToken. A function that is
    given by name is looked up; where it is not installed, nothing is known of it. `description`
    names the function without its arguments, unless another one is given.
    """

    @property
    def data(self) -> bytes:
        """The serialized call, checked when it is made and not when it comes from Redis."""
        if self._data is rq_job.UNEVALUATED and self._func_name is not rq_job.UNEVALUATED:
            self._check_call()
        return bytes(_StockJob.data.fget(self))  # type: ignore[attr-defined]  # a property of RQ's

    @data.setter
    def data(self, value: Any) -> None:
        _StockJob.data.fset(self, value)  # type: ignore[attr-defined]  # a property of RQ's

    def _check_call(self) -> None:
        # RQ's defaults for what was not set; else it would look for them in the data
        for name, default in (("_instance", None), ("_args", ()), ("_kwargs", {})):
            if getattr(self, name) is rq_job.UNEVALUATED:
                setattr(self, name, default)
        call = {"func_name": self.func_name, "args": self.args, "kwargs": self.kwargs}
        check = CallCheck(str(self.func_name), key="func_name", parameters=self._parameters)
        looked = check.look(call)
        self._args, self._kwargs = looked["args"], looked["kwargs"]  # iterators became lists

    def _parameters(self, name: str) -> Sequence[Any]:
        try:
            function = self.func if name == self.func_name else import_attribute(name)
        except Exception:  # noqa: BLE001 - whatever the user's module raises; RQ reports it later
            return ()
        return called_parameters(function)

    def get_call_string(self) -> str | None:
        """Return the function's name, for the description."""
        return f"{self.func_name}(...)"

    def restore(self, raw_data: Any) -> Any:
        """Take what Redis holds; a description of other producers loses its arguments."""
        restored = super().restore(raw_data)
        if self.description and (call := _CALL.fullmatch(self.description)):
            self.description = f"{call[1]}(...)"
        return restored

    def perform(self) -> Any:
        """Run the function, in the job that the worker has begun."""
        running = current_job()
        if running is not None and running.id == self.id:
            # here, since what a lookup raises is the job's own failure
            running.name, running.function = str(self.func_name), innermost(self.func)
        return super().perform()

    def give_up(self) -> None:
        """Prevent a retry, and show nobody the arguments: one of them may be a plain secret."""
        self.retries_left = 0
        self._args, self._kwargs = (), {}  # which RQ's line for a failure carries


class _PooledWorker(rq.worker.BaseWorker):
    """The parts that the workers share: a node for their main process, and the ends of jobs."""

    job_class = Job
    warms = False
    _horses = 0

    def __init__(self, *args: Any, job_class: Any = None, **options: Any) -> None:
        given = import_job_class(job_class) if isinstance(job_class, str) else job_class
        if given in (None, _StockJob):  # the command gives RQ's own where none is named
            given = type(self).job_class
        if not issubclass(given, Job):
            raise TypeError(
                f"job class {given.__module__}.{given.__qualname__} must inherit from "
                "bufpool_workers.rq.Job"
            )
        super().__init__(*args, job_class=given, **options)  # type: ignore[misc]  # by keyword

    def work(self, *args: Any, **options: Any) -> bool:
        """Prepare the node and serve its scrape; work; say what was counted."""
        with startup.errors_as_exit():
            self._prepare()
        shared = SharedNode.of_command("rq.worker_pool")
        place = OwnNode(f"rq-{self.name}") if shared is None else NodeOfCommand(shared, "rq-pool")
        software = {"rq": version("rq")}
        with lead(place, software=software, warm=int(self.warms), opens=self.warms):
            if self.warms:
                current_runtime().start_process()
            return bool(super().work(*args, **options))

    def _prepare(self) -> None:
        settings = _configure()
        if not self.warms:
            current_runtime().compacts = False
            _warn_of_warm_levels(settings)

    def execute_job(self, job: rq.job.Job, queue: rq.Queue) -> None:
        """Execute a job; merge the files of horses, which do not."""
        super().execute_job(job, queue)
        self._horses += not self.warms
        if self._horses >= _HORSES_TO_MERGE:
            self._horses = 0
            runtime = current_runtime()
            if runtime.node.metrics_directory is not None:
                runtime.counters.compact(runtime.node.metrics_directory)

    def perform_job(self, job: rq.job.Job, *more: Any) -> bool:
        """Perform a job; take back what it still holds."""
        runtime = current_runtime()
        _configure()  # in a horse that was spawned
        running = RunningJob(job.id, job.id, note_use=uses_in(self.connection, "rq", wanted="RQ"))
        running.give_up = getattr(job, "give_up", None)
        running.reply = partial(_reply, job, self.default_result_ttl)
        runtime.begin_job(running)
        try:
            return bool(super().perform_job(job, *more))
        finally:
            runtime.end_job(running)


class SimpleWorker(_PooledWorker, rq.SimpleWorker):
    """RQ's worker that performs jobs itself, with pools that are warm before the first one."""

    warms = True


class Worker(_PooledWorker, rq.Worker):
    """RQ's worker that forks a horse for each job, with secure buffers and one scrape.

    Nothing is warm in a horse, whose memory ends with its job.
    """


class SpawnWorker(_PooledWorker, rq.SpawnWorker):
    """RQ's worker that spawns a horse for each job, with secure buffers and one scrape.

    Needs RQ 3: the horses of earlier ones are of RQ's own class, in which nothing of ours runs.
    """

    def _prepare(self) -> None:
        if not hasattr(rq.SpawnWorker, "_dump_worker_config"):
            raise SettingsError(
                f"bufpool_workers.rq.SpawnWorker needs RQ 3, not {version('rq')}, which spawns "
                "workers of its own class: upgrade RQ, or take bufpool_workers.rq.Worker"
            )
        super()._prepare()

    def main_work_horse(self, job: rq.job.Job, queue: rq.Queue) -> None:
        """Perform a job in a process that was spawned for it."""
        current_runtime().compacts = False
        super().main_work_horse(job, queue)


def _configure() -> Settings:
    """Return the settings of this process: the environment's, where `configure` gave none."""
    runtime = current_runtime()
    if not runtime.hosts:
        runtime.add_host(PlainHost("RQ"))
    return runtime.settings


def _warn_of_warm_levels(settings: Settings) -> None:
    if settings.warm["regular"] != Settings.read({}).warm["regular"]:
        logger.warning(
            "bufpool: bufpool_warm names regular buffers, which are not made: each job of this "
            "worker has a process of its own, in which a pool costs more than it saves; take "
            "bufpool_workers.rq.SimpleWorker"
        )


def _reply(job: rq.job.Job, default_ttl: int) -> Reply:
    is_kept = job.get_result_ttl(default_ttl) != 0 or job.success_callback is not None
    return Reply(is_kept, job.meta.get(REPLY_HEADER))
