"""Dramatiq: `broker.add_middleware(BufpoolMiddleware({"warm": {"regular": {"1MiB": 4}}}))`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from bufpool_workers.errors import DamagedToken, NotSealed, SealError
from bufpool_workers.runtime import Job, current_runtime, leading, startup
from bufpool_workers.runtime.job import REPLY_HEADER, Reply
from bufpool_workers.runtime.job_host import JobHost, end_job, needs_extra, uses_in
from bufpool_workers.runtime.shared_node import commander
from bufpool_workers.settings import Settings

with needs_extra("dramatiq"):
    from dramatiq import Actor, Broker, Message, MessageProxy, Middleware, Worker
    from dramatiq.middleware import MiddlewareError

__all__ = ["BufpoolMiddleware", "DamagedRefused", "NotSealedRefused"]

logger = logging.getLogger(__name__)

_COMMAND: Final = "dramatiq.cli"
_HOST: Final = "Dramatiq's BufpoolMiddleware"


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
        if isinstance(settings, Broker):
            raise TypeError(
                "BufpoolMiddleware takes settings, not a broker: "
                "broker.add_middleware(BufpoolMiddleware())"
            )
        command = commander(_COMMAND)
        with startup.errors_as_exit(when=command is not None):
            self._host = JobHost(_HOST, settings)
            current_runtime().add_host(self._host)
            self._place: leading.Place = leading.OwnNode(f"dramatiq@{os.uname().nodename}")
            if command is not None:
                self._place = leading.ServedNode(command, "dramatiq", self._host.read_settings())
        self._ends = ExitStack()

    @property
    def forks(self) -> list[Callable[[], int]]:
        """Serve the endpoint, if a port is set; the command runs this in a process of its own."""
        has_port = self._host.read_settings().metrics_port is not None
        return [serve_metrics] if has_port else []

    def after_declare_actor(self, broker: Broker, actor: Actor[..., Any]) -> None:  # noqa: ARG002
        """Hold on to the user's function; of an actor that is a class, to its method."""
        self._host.declare(actor.actor_name, getattr(actor.fn, "perform", actor.fn))

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int) -> None:  # noqa: ARG002
        """Refuse a message with a sealed argument that is not sealed, in what it carries too."""
        try:
            self._host.check(vars(message), key="actor_name", fields=_fields)
        except NotSealed as error:
            raise NotSealedRefused(str(error)) from None
        except DamagedToken as error:
            raise DamagedRefused(str(error)) from None

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin a job."""
        fields = message._message  # noqa: SLF001 - each look through the proxy costs a call
        name = fields.actor_name
        job = Job(fields.message_id, name, self._host.functions.get(name))
        job.note_use = partial(_note_use, broker)
        job.give_up = partial(_give_up, message)
        job.reply = partial(_reply, broker, fields)
        current_runtime().begin_job(job)

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002 - Dramatiq's signature
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        """End the job, of a skipped message too: take back what it still holds."""
        if isinstance(exception, SealError):  # Dramatiq logs its class alone, as it is expected
            logger.warning("bufpool: %s", exception)
        end_job(message.message_id)

    after_skip_message = after_process_message

    def after_process_boot(self, broker: Broker) -> None:  # noqa: ARG002 - Dramatiq's signature
        """Check what a worker needs, and warm up; end a worker process that can't serve."""
        self._ends = leading.lead(self._place, software="dramatiq")

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Take prometheus_client's metrics along: Dramatiq's own middleware has moved them."""
        current_runtime().node.share_metrics()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Close the pools, and leave the node."""
        self._ends.close()
        current_runtime().stop_process()  # of a worker in another program, which led nothing


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return the fields of a message themselves, so that lists take the places of iterators."""
    message = value._message if isinstance(value, MessageProxy) else value  # noqa: SLF001
    return vars(message) if isinstance(message, Message) else None


def _note_use(broker: Broker, *use: Any) -> bool:
    client, namespace = getattr(broker, "client", None), getattr(broker, "namespace", "")
    return uses_in(client, namespace, wanted="dramatiq.brokers.redis.RedisBroker")(*use)


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
    leading.serve_node(_COMMAND, host=_HOST)
    return 0
