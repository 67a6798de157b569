"""Huey: `setup(huey, {"warm": {"regular": {"1MiB": 4}}})`, and `huey_consumer` as it is."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Final
from weakref import WeakKeyDictionary

from bufpool_workers.runtime import Job, current_job, current_runtime, startup
from bufpool_workers.runtime.job import REPLY_HEADER, Reply
from bufpool_workers.runtime.job_host import JobHost, end_job, needs_extra, uses_in
from bufpool_workers.runtime.leading import OwnNode, lead
from bufpool_workers.settings import Settings
from bufpool_workers.signatures import unwrapped

with needs_extra("huey"):
    from huey import Huey
    from huey.api import Task
    from huey.constants import WORKER_PROCESS
    from huey.registry import Message

__all__ = ["setup"]

_CONSUMER: Final = "huey.bin.huey_consumer"


def setup(huey: Huey, settings: Settings | Mapping[str, Any] | None = None) -> None:
    """Wire warm pools into the consumer of `huey`, and refuse to store a plain secret.

    `settings` is a mapping of names with or without `bufpool_`, or `Settings`; without one those
    of the environment count (BUFPOOL_WARM). The metrics of prometheus_client count in the scrape
    wherever they are made. Calling it again changes nothing. Raises SettingsError that lists
    everything that is wrong, and TypeError for what is no Huey.
    """
    if not isinstance(huey, Huey):
        raise TypeError(f"setup needs a Huey instance, not {type(huey).__name__}")
    hosts = current_runtime().hosts
    if any(isinstance(host, HueyHost) and host.huey is huey for host in hosts):
        return
    # the consumer imports the app that calls this
    with startup.errors_as_exit(when=_CONSUMER in sys.modules):
        host = HueyHost(huey, settings)
    current_runtime().add_host(host)
    # on the instance, before which nothing of Huey's stands
    registry = huey._registry  # noqa: SLF001 - which makes the messages of all tasks
    registry.create_message = functools.partial(host.create_message, registry.create_message)
    huey.create_consumer = functools.partial(host.create_consumer, huey.create_consumer)
    huey.on_startup("bufpool")(current_runtime().start_process)
    huey.on_shutdown("bufpool")(host.end_worker)
    huey.pre_execute("bufpool")(host.begin)
    huey.post_execute("bufpool")(host.end)


class HueyHost(JobHost):
    """A Huey instance as a host of this process's runtime."""

    def __init__(self, huey: Huey, settings: Settings | Mapping[str, Any] | None) -> None:
        super().__init__(f"the Huey {huey.name!r}", settings)
        self.huey = huey
        self._registry = huey._registry  # noqa: SLF001 - there is no other list of tasks
        self._known: WeakKeyDictionary[type[Task], tuple[str, Any, Any]] = WeakKeyDictionary()
        self._main = 0

    def names(self) -> Iterable[str]:
        """Return the names of the tasks."""
        return tuple(self._registry._registry)  # noqa: SLF001 - as above

    def called(self, name: str) -> Any:
        """Return the function of a task."""
        cls = self._registry._registry.get(name)  # noqa: SLF001 - raises nothing
        return None if cls is None else self._know(cls)[1]

    def _know(self, cls: type[Task]) -> tuple[str, Any, Any]:
        """Return a task's name, the function that it calls, and the user's own in that."""
        if cls not in self._known:  # only its method knows the function that Huey made a class of
            called = inspect.getclosurevars(cls.execute).nonlocals.get("func")
            self._known[cls] = self._registry.task_to_string(cls), called, unwrapped(called)
        return self._known[cls]

    # messages

    def create_message(self, make: Callable[[Task], Message], task: Task) -> Message:
        """Make a task's message, unless it has a sealed argument that is not sealed.

        Huey comes here for the tasks that it carries too: pipelines, error handlers, chords.
        """
        if hasattr(task, REPLY_HEADER):  # it ran, and is stored again
            task.kwargs[REPLY_HEADER] = getattr(task, REPLY_HEADER)
        call = {"name": self._know(type(task))[0], "args": task.args, "kwargs": task.kwargs}
        looked = self.check(call, key="name")
        task.args, task.kwargs = looked["args"], looked["kwargs"]  # iterators became lists
        return make(task)

    # jobs

    def begin(self, task: Task) -> None:
        """Begin a job."""
        name, _, function = self._know(type(task))
        if REPLY_HEADER in task.kwargs:  # which its function does not take
            setattr(task, REPLY_HEADER, task.kwargs.pop(REPLY_HEADER))
        job = Job(task.id, name, function)
        client = getattr(self.huey.storage, "conn", None)  # immediate mode has another storage
        job.note_use = uses_in(client, f"huey.{self.huey.name}", wanted="a Huey on Redis")
        job.give_up = functools.partial(setattr, task, "retries", 0)
        job.reply = functools.partial(self._reply, task)
        # immediate mode: a task that another one calls
        current_runtime().begin_job(job, nested=self.huey.immediate and current_job() is not None)

    def _reply(self, task: Task) -> Reply:
        is_periodic = hasattr(task, "validate_datetime")  # Huey keeps no result of such a task
        is_kept = (self.huey.results and not is_periodic) or task.on_complete or task.chord_config
        return Reply(bool(is_kept), getattr(task, REPLY_HEADER, None))

    def end(self, task: Task, task_value: Any, exception: Any) -> None:  # noqa: ARG002 - Huey's signature
        """End the job: take back what it still holds."""
        end_job(task.id)

    # processes

    def create_consumer(self, make: Callable[..., Any], **options: Any) -> Any:
        """Prepare the node in the consumer's main process, before it has workers."""
        self._main = os.getpid()
        place = OwnNode(f"huey-{self.huey.name}@{os.uname().nodename}", app=self.huey.name)
        has_processes = options.get("worker_type") == WORKER_PROCESS
        ends = lead(
            place, software="huey", warming=options.get("workers", 1) if has_processes else None
        )
        consumer = make(**options)
        consumer.run = functools.partial(_run, consumer.run, ends)
        return consumer

    def end_worker(self) -> None:
        """Close the pools of a worker that is a process; those of threads go on in others."""
        if os.getpid() != self._main:
            current_runtime().stop_process()


def _run(run: Callable[[], None], ends: ExitStack) -> None:
    with ends:
        run()
