"""RQ: `rq worker --worker-class bufpool_workers.rq.SimpleWorker`, and `Job` for its queues.

Settings are those of the environment (BUFPOOL_WARM), or what `configure` was given before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from bufpool_workers.errors import SettingsError
from bufpool_workers.runtime import Job as RunningJob
from bufpool_workers.runtime import current_job, current_runtime, startup
from bufpool_workers.runtime.job import REPLY_HEADER, Reply
from bufpool_workers.runtime.job_host import needs_extra, run_job, uses_in
from bufpool_workers.runtime.leading import lead, place_of
from bufpool_workers.runtime.plain_host import configured
from bufpool_workers.sealing.calls import check_call
from bufpool_workers.sealing.parameters import called_parameters
from bufpool_workers.signatures import unwrapped

with needs_extra("rq"):
    import rq
    from rq.utils import import_attribute, import_job_class

__all__ = ["Job", "SimpleWorker", "SpawnWorker", "Worker"]

_CALL: Final = re.compile(r"([\w.]+\.\w+)\(.*\)", re.DOTALL)


class Job(rq.job.Job):
    """A job that is not stored with a sealed argument that is no token, and that shows no call.

    Producers give it to their queues: `Queue(job_class=Job)`. All that stores a job asks for its
    `data` first, which is checked when it is made: NotSealed, DamagedToken. A function that is
    given by name is looked up; where it is not installed, nothing is known of it. `description`
    names the function without its arguments, unless another one is given.
    """

    def _checked_data(self) -> bytes:
        """Return the serialized call, checked when it is made, not when it comes from Redis."""
        unset = rq.job.UNEVALUATED
        if self._data is unset and self._func_name is not unset:
            # RQ's defaults for what was not set; else it would look for them in the data
            for name, default in (("_instance", None), ("_args", ()), ("_kwargs", {})):
                if getattr(self, name) is unset:
                    setattr(self, name, default)
            call = {"func_name": self.func_name, "args": self.args, "kwargs": self.kwargs}
            looked = check_call(call, key="func_name", parameters=self._parameters)
            self._args, self._kwargs = looked["args"], looked["kwargs"]  # iterators became lists
        return super().data

    data = property(_checked_data, rq.job.Job.data.fset)  # type: ignore[attr-defined]  # a property

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
            running.name, running.function = str(self.func_name), unwrapped(self.func)
        return super().perform()

    def give_up(self) -> None:
        """Prevent a retry, and show nobody the arguments: one of them may be a plain secret."""
        self.retries_left = 0
        self._args, self._kwargs = (), {}  # which RQ's line for a failure carries


class _PooledWorker(rq.worker.BaseWorker):
    """The parts that the workers share: a node for their main process, and the ends of jobs."""

    job_class = Job
    performs = False
    """Whether the worker performs jobs itself: pools are warm there, and nowhere else."""

    def __init__(self, *args: Any, job_class: Any = None, **options: Any) -> None:
        given = import_job_class(job_class) if isinstance(job_class, str) else job_class
        if given in (None, rq.job.Job):  # the command gives RQ's own where none is named
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
            place = place_of("rq.worker_pool", shared="rq-pool", own=f"rq-{self.name}")
        with lead(place, software="rq", warming=None if self.performs else 0):
            return bool(super().work(*args, **options))

    def _prepare(self) -> None:
        settings = configured("RQ")
        if not self.performs:
            startup.warn_of_warm_levels(settings, instead="bufpool_workers.rq.SimpleWorker")

    def execute_job(self, job: rq.job.Job, queue: rq.Queue) -> None:
        """Execute a job; merge the files of horses, which do not."""
        super().execute_job(job, queue)
        if not self.performs:
            current_runtime().counters.child_ended()

    def perform_job(self, job: rq.job.Job, *more: Any) -> bool:
        """Perform a job; take back what it still holds."""
        configured("RQ")  # in a horse that was spawned
        current_runtime().compacts = self.performs
        running = RunningJob(job.id, job.id, note_use=uses_in(self.connection, "rq", wanted="RQ"))
        running.give_up = getattr(job, "give_up", None)
        running.reply = partial(_reply, job, self.default_result_ttl)
        return bool(run_job(running, partial(super().perform_job, job, *more)))


class SimpleWorker(_PooledWorker, rq.SimpleWorker):
    """RQ's worker that performs jobs itself, with pools that are warm before the first one."""

    performs = True


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


def _reply(job: rq.job.Job, default_ttl: int) -> Reply:
    is_kept = job.get_result_ttl(default_ttl) != 0 or job.success_callback is not None
    return Reply(is_kept, job.meta.get(REPLY_HEADER))
