"""Dramatiq: `broker.add_middleware(BufpoolMiddleware({"warm": {"regular": {"1MiB": 4}}}))`."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from threading import Event
from typing import Any
from uuid import uuid4

from bufpool_workers.errors import DamagedToken, NotSealed, ReplayStoreError, SealError
from bufpool_workers.runtime import Job, PlainHost, current_job, current_runtime, startup
from bufpool_workers.runtime.job import REPLY_HEADER, Reply
from bufpool_workers.runtime.shared_node import SharedNode
from bufpool_workers.sealing.calls import CallCheck
from bufpool_workers.sealing.parameters import called_parameters, innermost, is_any_recorded
from bufpool_workers.sealing.single_use import Store
from bufpool_workers.settings import Settings

try:
    from dramatiq import Actor, Broker, Message, MessageProxy, Middleware, Worker
    from dramatiq.middleware import MiddlewareError
except ModuleNotFoundError as error:
    if error.name != "dramatiq":
        raise
    raise ModuleNotFoundError(
        "bufpool_workers.dramatiq needs Dramatiq: pip install 'bufpool-workers[dramatiq]'",
        name="dramatiq",
    ) from None

__all__ = ["BufpoolMiddleware", "DamagedRefused", "NotSealedRefused"]

logger = logging.getLogger(__name__)


class NotSealedRefused(MiddlewareError, NotSealed):  # noqa: N818 - as errors.py
    """NotSealed before a message is enqueued; Dramatiq drops whatever is no MiddlewareError."""


class DamagedRefused(MiddlewareError, DamagedToken):  # noqa: N818
    """DamagedToken before a message is enqueued."""


class BufpoolMiddleware(Middleware):
    """Warm pools in each worker process of a broker, sealed arguments, and one scrape of them all.

    `settings` is a mapping of names with or without `bufpool_`, or `Settings`; without one those
    of the environment count (BUFPOOL_WARM). Stands where `add_middleware` puts it, last. Make it
    before the modules of actors make metrics of prometheus_client. Raises SettingsError that lists
    everything that is wrong; a worker process ends with that line.
    """

    def __init__(self, settings: Settings | Mapping[str, Any] | None = None) -> None:
        self._functions: dict[str, Callable[..., Any]] = {}
        self._stores: dict[Broker, Store] = {}
        self._runtime = current_runtime()
        self._node: SharedNode | None = None
        pid = _command_pid()
        with nullcontext() if pid is None else startup.errors_as_exit():
            if isinstance(settings, Broker):
                raise TypeError(
                    "BufpoolMiddleware takes settings, not a broker: "
                    "broker.add_middleware(BufpoolMiddleware())"
                )
            host = DramatiqHost("Dramatiq's BufpoolMiddleware", settings)
            host.functions = self._functions
            self._runtime.add_host(host)
            self._serves = host.read_settings().metrics_port is not None
            if pid is not None:
                self._node = SharedNode(pid)
                self._node.join(host.read_settings())
                self._node.tell_endpoint(host.read_settings())

    @property
    def forks(self) -> list[Callable[[], int]]:
        """Serve the endpoint, if a port is set; the command runs this in a process of its own."""
        return [serve_metrics] if self._serves else []

    # actors

    def after_declare_actor(self, broker: Broker, actor: Actor[..., Any]) -> None:  # noqa: ARG002
        """Hold on to the user's function, whatever is wrapped around it later."""
        self._functions[actor.actor_name] = innermost(_called(actor))

    # messages

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int) -> None:  # noqa: ARG002
        """Refuse a message with a sealed argument that is not sealed, in what it carries too."""
        if not is_any_recorded():
            return
        try:
            looked = _MessageCheck(broker, message).look(message.asdict())
        except NotSealed as error:
            raise NotSealedRefused(str(error)) from None
        except DamagedToken as error:
            raise DamagedRefused(str(error)) from None
        if looked["args"] is not message.args:  # an iterator in it became a list
            object.__setattr__(message, "args", looked["args"])

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin a job."""
        fields = message._message  # noqa: SLF001 - each look through the proxy costs a call
        name = fields.actor_name
        self._runtime.begin_job(
            Job(
                fields.message_id,
                name,
                self._functions.get(name),
                self._stores.get(broker) or self._store(broker),
                partial(_give_up, message),
                partial(_reply, broker, fields),
            )
        )

    def _store(self, broker: Broker) -> Store:
        store = self._stores[broker] = partial(_note_use, broker)
        return store

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002 - Dramatiq's signature
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        """End the job: take back what it still holds."""
        if exception is not None and isinstance(
            exception, SealError
        ):  # Dramatiq logs its class alone, as it is expected
            logger.warning("bufpool: %s", exception)
        job = current_job()
        if job is not None and job.id == message._message.message_id:  # noqa: SLF001 - as above
            self._runtime.end_job(job)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """End the job of a message that another middleware skips."""
        self.after_process_message(broker, message)

    # processes

    def after_process_boot(self, broker: Broker) -> None:  # noqa: ARG002 - Dramatiq's signature
        """Check what a worker needs, and warm up; end a worker process that can't serve."""
        runtime = self._runtime
        with startup.errors_as_exit():
            settings = runtime.settings
            runtime.load_late_imports(store="bufpool_workers.redis_store")
            if self._node is not None:
                self._node.start(name="dramatiq", software={"dramatiq": version("dramatiq")})
            runtime.node.check_warm(processes=1)
            startup.check(settings)
        runtime.start_process()

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Take prometheus_client's metrics along: Dramatiq's own middleware has moved them."""
        self._runtime.node.share_metrics()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Close the pools."""
        self._runtime.stop_process()
        if self._node is not None:
            self._node.leave(last=True)  # the command stops all when one stops


class DramatiqHost(PlainHost):
    """Dramatiq in this process, for the runtime."""

    functions: Mapping[str, Callable[..., Any]]

    def called_job(self, function: Callable[..., Any]) -> Job | None:
        """Return a job for a function that runs because its actor was called."""
        for name, each in self.functions.items():
            if each is function:
                return Job(str(uuid4()), name, function)
        return None


class _MessageCheck(CallCheck):
    """Checks a message, and those that it carries: pipelines, group callbacks, arguments.

    A pipeline adds a result after a message's own arguments, which leaves their places as they are.
    """

    def __init__(self, broker: Broker, message: Message[Any]) -> None:
        def parameters(name: str) -> tuple[Any, ...]:
            actor = broker.actors.get(name)
            return () if actor is None else called_parameters(_called(actor))

        super().__init__(message.actor_name, key="actor_name", parameters=parameters)

    def held_by(self, value: Any) -> Mapping[Any, Any] | None:
        """Return a message's fields; an encoder that pickles takes messages as arguments."""
        return value.asdict() if isinstance(value, Message | MessageProxy) else None


def _called(actor: Actor[..., Any]) -> Any:
    """Return what an actor calls; of one that is a class, its method."""
    return getattr(actor.fn, "perform", actor.fn)


def _note_use(broker: Broker, key: str, holder: str, seconds: int) -> bool:
    from bufpool_workers import redis_store  # noqa: PLC0415 - redis

    client, namespace = getattr(broker, "client", None), getattr(broker, "namespace", "")
    if client is None or not hasattr(client, "set"):
        raise ReplayStoreError(
            "single-use tokens need dramatiq.brokers.redis.RedisBroker, or a Redis that "
            "bufpool_single_use_url names"
        )
    return redis_store.note_use(client, f"{namespace}:{key}", holder, seconds)


def _reply(broker: Broker, message: Message[Any]) -> Reply:
    actor = broker.actors.get(message.actor_name)
    options = {**(actor.options if actor else {}), **message.options}
    # of dramatiq.results.Results, or what stands in for it
    stores = any(getattr(each, "store_results", False) for each in broker.middleware)
    stores = options.get("store_results", stores)
    is_kept = stores or any(options.get(name) for name in ("pipe_target", "on_success"))
    return Reply(bool(is_kept), message.options.get(REPLY_HEADER))


def _give_up(message: MessageProxy) -> None:
    message.options["throws"] = Exception  # which Dramatiq does not retry
    # one may be a plain secret, which Dramatiq would log with the message
    message._message = message._message.copy(args=(), kwargs={})  # noqa: SLF001 - nothing else takes it


def _command_pid() -> int | None:
    """Return the pid of the command `dramatiq` in a process that it started; None elsewhere."""
    target = getattr(multiprocessing.current_process(), "_target", None)
    parent = multiprocessing.parent_process()
    is_commands = getattr(target, "__module__", None) == "dramatiq.cli"
    return parent.pid if parent is not None and is_commands else None


def serve_metrics() -> int:
    """Serve the scrape of the node; the command runs this in a process that imports no actor."""
    pid = _command_pid()
    if pid is None:
        raise RuntimeError("the command `dramatiq` runs this, in a process of its own")
    with startup.errors_as_exit():
        node = SharedNode(pid)
        try:
            settings = node.endpoint_settings()
            node.join(settings)
            current_runtime().add_host(PlainHost("Dramatiq's BufpoolMiddleware", settings))
            node.serve(Event())
        finally:
            node.leave(last=True)
    return 0
