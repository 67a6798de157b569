"""Dramatiq: `broker.add_middleware(BufpoolMiddleware({"warm": {"regular": {"1MiB": 4}}}))`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from threading import Event
from typing import Any, Final

from bufpool_workers.errors import DamagedToken, NotSealed, SealError
from bufpool_workers.runtime import Job, PlainHost, current_runtime, startup
from bufpool_workers.runtime.job import REPLY_HEADER, Reply
from bufpool_workers.runtime.job_host import JobHost, end_job, needs_extra, uses_in
from bufpool_workers.runtime.shared_node import SharedNode
from bufpool_workers.sealing.calls import CallCheck
from bufpool_workers.sealing.parameters import innermost, is_any_recorded
from bufpool_workers.sealing.single_use import Store
from bufpool_workers.settings import Settings

with needs_extra("dramatiq"):
    from dramatiq import Actor, Broker, Message, MessageProxy, Middleware, Worker
    from dramatiq.middleware import MiddlewareError

__all__ = ["BufpoolMiddleware", "DamagedRefused", "NotSealedRefused"]

logger = logging.getLogger(__name__)

_COMMAND: Final = "dramatiq.cli"


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
        with startup.errors_as_exit():
            self._node = SharedNode.of_command(_COMMAND)
        with nullcontext() if self._node is None else startup.errors_as_exit():
            if isinstance(settings, Broker):
                raise TypeError(
                    "BufpoolMiddleware takes settings, not a broker: "
                    "broker.add_middleware(BufpoolMiddleware())"
                )
            self._host = DramatiqHost("Dramatiq's BufpoolMiddleware", settings)
            self._runtime.add_host(self._host)
            settings = self._host.read_settings()
            self._serves = settings.metrics_port is not None
            if self._node is not None:
                self._node.join(settings)
                self._node.tell_endpoint(settings)

    @property
    def forks(self) -> list[Callable[[], int]]:
        """Serve the endpoint, if a port is set; the command runs this in a process of its own."""
        return [serve_metrics] if self._serves else []

    # actors

    def after_declare_actor(self, broker: Broker, actor: Actor[..., Any]) -> None:  # noqa: ARG002
        """Hold on to the user's function, whatever is wrapped around it later."""
        # of an actor that is a class, its method
        called = self._host.actors[actor.actor_name] = getattr(actor.fn, "perform", actor.fn)
        self._functions[actor.actor_name] = innermost(called)

    # messages

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int) -> None:  # noqa: ARG002
        """Refuse a message with a sealed argument that is not sealed, in what it carries too."""
        if not is_any_recorded():
            return
        try:
            check = _MessageCheck(
                message.actor_name, key="actor_name", parameters=self._host.parameters
            )
            looked = check.look(message.asdict())
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
        store = self._stores[broker] = uses_in(
            getattr(broker, "client", None),
            getattr(broker, "namespace", ""),
            wanted="dramatiq.brokers.redis.RedisBroker",
        )
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
        end_job(message._message.message_id)  # noqa: SLF001 - as above

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
            if self._node is not None and self._serves:
                self._node.check_endpoint()
        runtime.start_process()

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Take prometheus_client's metrics along: Dramatiq's own middleware has moved them."""
        self._runtime.node.share_metrics()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Close the pools."""
        self._runtime.stop_process()
        if self._node is not None:
            self._node.leave(last=True)  # the command stops all when one stops


class DramatiqHost(JobHost):
    """Dramatiq in this process, for the runtime."""

    def __init__(self, name: str, settings: Settings | Mapping[str, Any] | None) -> None:
        super().__init__(name, settings)
        self.actors: dict[str, Any] = {}

    def names(self) -> Iterable[str]:
        """Return the names of the actors."""
        return self.actors

    def called(self, name: str) -> Any:
        """Return what an actor calls, as it was declared."""
        return self.actors.get(name)


class _MessageCheck(CallCheck):
    """Checks a message, and those that it carries: pipelines, group callbacks, arguments.

    A pipeline adds a result after a message's own arguments, which leaves their places as they are.
    """

    def held_by(self, value: Any) -> Mapping[Any, Any] | None:
        """Return a message's fields; an encoder that pickles takes messages as arguments."""
        return value.asdict() if isinstance(value, Message | MessageProxy) else None


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


def serve_metrics() -> int:
    """Serve the scrape of the node; the command runs this in a process that imports no actor."""
    with startup.errors_as_exit():
        node = SharedNode.of_command(_COMMAND)
        if node is None:
            raise RuntimeError("the command `dramatiq` runs this, in a process of its own")
        try:
            settings = node.endpoint_settings()
            node.join(settings)
            current_runtime().add_host(PlainHost("Dramatiq's BufpoolMiddleware", settings))
            node.serve(Event())
        finally:
            node.leave(last=True)
    return 0
