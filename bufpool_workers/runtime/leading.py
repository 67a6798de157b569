"""The main process of a job system's node, from its start to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.metadata import version
from threading import Event, Thread
from typing import Protocol

from bufpool_workers.errors import MetricsError
from bufpool_workers.runtime import startup
from bufpool_workers.runtime.plain_host import PlainHost
from bufpool_workers.runtime.process import current_runtime
from bufpool_workers.runtime.shared_node import SharedNode, commander
from bufpool_workers.settings import Settings

logger = logging.getLogger(__name__)


class Place(Protocol):
    """Where the processes of a node count, and how one of them serves the scrape."""

    def start(self, settings: Settings, software: Mapping[str, str]) -> None:
        """Choose the directory and prepare it; raise MetricsError if that can't be done."""

    def serve(self) -> Callable[[], None]:
        """Serve the scrape from a thread; return what ends that. Raises MetricsError."""

    def leave(self) -> None:
        """Leave the directory."""


class OwnNode:
    """A node whose main process this is, with a private directory where none is named."""

    def __init__(self, name: str, app: str | None = None) -> None:
        self._name = name
        self._app = app

    def start(self, settings: Settings, software: Mapping[str, str]) -> None:  # noqa: ARG002 - Place's
        """Choose the directory and prepare it."""
        node = current_runtime().node
        if node.directory.path is None:
            node.join(private=True)
        node.start(node=self._name, app=self._app, software=software)

    def serve(self) -> Callable[[], None]:
        """Serve the scrape from a thread of this process."""
        return current_runtime().node.serve().close

    def leave(self) -> None:
        """Do nothing: a private directory ends with this process."""


class NodeOfCommand:
    """A node whose main process, `pid`, is a command's: one of its processes serves the scrape."""

    def __init__(self, pid: int, name: str) -> None:
        self._node = SharedNode(pid)
        self._name = name

    def start(self, settings: Settings, software: Mapping[str, str]) -> None:
        """Choose the directory and prepare it."""
        self._node.join(settings)
        self._node.start(name=self._name, software=software)

    def serve(self) -> Callable[[], None]:
        """Serve the scrape when no other process of the node does."""
        self._node.check_endpoint()
        stop = Event()
        Thread(target=self._serve, args=(stop,), daemon=True).start()
        return stop.set

    def _serve(self, stop: Event) -> None:
        try:
            self._node.serve(stop)
        except MetricsError as error:
            logger.error("bufpool: no scrape of this node: %s", error)  # noqa: TRY400 - one line

    def leave(self) -> None:
        """Leave the directory to the others."""
        self._node.leave()


def place_of(command: str, *, shared: str, own: str) -> Place:
    """Return the place of a process that the module `command` may have started with others.

    The node that they share is called `shared`, that of a process which is alone `own`.
    """
    pid = commander(command)
    return OwnNode(own) if pid is None else NodeOfCommand(pid, shared)


class ServedNode(NodeOfCommand):
    """A node of a command that runs `serve_node` in a process of its own.

    Its processes choose the directory when they make this, before they make metrics in it.
    """

    def __init__(self, pid: int, name: str, settings: Settings) -> None:
        super().__init__(pid, name)
        self._node.join(settings)
        self._node.tell_endpoint(settings)

    def start(self, settings: Settings, software: Mapping[str, str]) -> None:  # noqa: ARG002 - Place's
        """Prepare the directory."""
        self._node.start(name=self._name, software=software)

    def serve(self) -> Callable[[], None]:
        """Check that the other process can serve the scrape."""
        self._node.check_endpoint()
        return lambda: None

    def leave(self) -> None:
        """Leave the directory; the command stops all of its processes when one stops."""
        self._node.leave(last=True)


def serve_node(command: str, *, host: str) -> None:
    """Serve a node for its `ServedNode`s until it ends, in a process that performs no jobs.

    `command` is the module of the command that runs this, `host` says in errors whose the settings
    are. A mistake that the user can mend ends the process with one line.
    """
    pid = commander(command)
    if pid is None:
        program = command.partition(".")[0]
        raise RuntimeError(f"the command `{program}` runs this, in a process of its own")
    with startup.errors_as_exit():
        node = SharedNode(pid)
        try:
            settings = node.endpoint_settings()
            node.join(settings)
            current_runtime().add_host(PlainHost(host, settings))
            node.serve(Event())
        finally:
            node.leave(last=True)


def lead(place: Place, *, software: str, warming: int | None = None) -> ExitStack:
    """Prepare a node and serve its scrape; the end of what is returned ends that.

    Then what the node counted is logged, and the pools of this process are closed. `software` is
    the job system's distribution. This process warms up and performs the jobs, unless children do:
    then `warming` is the number of those that warm up, and this process keeps no private key. A
    mistake that the user can mend ends the process with one line.
    """
    runtime = current_runtime()
    with ExitStack() as ends:
        with startup.errors_as_exit():
            settings = runtime.settings
            runtime.load_late_imports(store="bufpool_workers.redis_store")
            if warming != 0:
                runtime.node.check_warm(processes=1 if warming is None else warming)
            ends.callback(place.leave)
            place.start(settings, {software: version(software)})
            startup.check(settings)
            if settings.metrics_port is not None:
                ends.callback(place.serve())
        runtime.node.share_metrics()
        ends.callback(runtime.stop_process)
        ends.callback(runtime.node.log_totals)
        if warming is None:
            runtime.start_process()
        else:
            runtime.keys.keep_out()
        return ends.pop_all()
