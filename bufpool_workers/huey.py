"""Huey: `setup(huey, {"warm": {"regular": {"1MiB": 4}}})`, and `huey_consumer` as it is."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from importlib.metadata import version
from typing import Any, Final
from weakref import WeakKeyDictionary

from bufpool_workers.runtime import Job, current_job, current_runtime, startup
from bufpool_workers.runtime.job import REPLY_HEADER, Reply
from bufpool_workers.runtime.job_host import JobHost, end_job, needs_extra, uses_in
from bufpool_workers.runtime.leading import OwnNode, lead
from bufpool_workers.sealing.calls import CallCheck
from bufpool_workers.sealing.parameters import innermost, is_any_recorded
from bufpool_workers.settings import Settings

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
    with startup.errors_as_exit() if _CONSUMER in sys.modules else nullcontext():
        host = HueyHost(huey, settings)
    current_runtime().add_host(host)
    # on the instance, before which nothing of Huey's stands
    huey.serialize_task = functools.partial(host.serialize, huey.serialize_task)
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
        self._functions: WeakKeyDictionary[type[Task], Any] = WeakKeyDictionary()
        self._jobs: WeakKeyDictionary[type[Task], tuple[str, Any]] = WeakKeyDictionary()
        self._prefix = f"huey.{huey.name}"
        self._main = 0

    def names(self) -> Iterable[str]:
        """Return the names of the tasks."""
        return tuple(self.huey._registry._registry)  # noqa: SLF001 - there is no other list

    def called(self, name: str) -> Any:
        """Return the function of a task."""
        cls = self.huey._registry._registry.get(name)  # noqa: SLF001 - raises nothing
        return None if cls is None else self._function(cls)

    # messages

    def serialize(self, make: Callable[[Task], bytes], task: Task) -> bytes:
        """Make a task's message, unless it has a sealed argument that is not sealed."""
        if hasattr(task, REPLY_HEADER):  # it ran, and is stored again
            task.kwargs[REPLY_HEADER] = getattr(task, REPLY_HEADER)
        if is_any_recorded():
            message = self.huey._registry.create_message(task)  # noqa: SLF001 - as `make` does
            check = _MessageCheck(self._name(type(task)), key="name", parameters=self.parameters)
            looked = check.look(message)
            task.args, task.kwargs = looked.args, looked.kwargs  # iterators became lists
        return make(task)

    def _name(self, cls: type[Task]) -> str:
        return str(self.huey._registry.task_to_string(cls))  # noqa: SLF001 - tasks have no such name

    def _function(self, cls: type[Task]) -> Any:
        """Return the function that Huey made a class of, which only its method knows."""
        if cls not in self._functions:
            self._functions[cls] = inspect.getclosurevars(cls.execute).nonlocals.get("func")
        return self._functions[cls]

    # jobs

    def begin(self, task: Task) -> None:
        """Begin a job."""
        cls = type(task)
        try:
            name, function = self._jobs[cls]
        except KeyError:
            name, function = self._jobs[cls] = self._name(cls), innermost(self._function(cls))
        if REPLY_HEADER in task.kwargs:  # which its function does not take
            setattr(task, REPLY_HEADER, task.kwargs.pop(REPLY_HEADER))
        job = Job(task.id, name, function)
        client = getattr(self.huey.storage, "conn", None)  # immediate mode has another storage
        job.note_use = uses_in(client, self._prefix, wanted="a Huey on Redis")
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
        has_processes = options.get("worker_type") == WORKER_PROCESS
        ends = lead(
            OwnNode(f"huey-{self.huey.name}@{os.uname().nodename}", app=self.huey.name),
            software={"huey": version("huey")},
            warm=options.get("workers", 1) if has_processes else 1,
            opens=not has_processes,
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


class _MessageCheck(CallCheck):
    """Checks a message, and those that it carries: pipelines, error handlers, chords.

    A pipeline adds a result after a task's own arguments, which leaves their places as they are.
    """

    def look(self, value: Any, context: Any = None) -> Any:
        """Look at a value; at a message by the names of its fields."""
        if isinstance(value, Message):
            return Message(**super().look(value._asdict(), context))
        return super().look(value, context)
