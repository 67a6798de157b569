"""The main process of a job system's node, from its start to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from threading import Event, Thread
from typing import Protocol

from bufpool_workers.errors import MetricsError
from bufpool_workers.runtime import startup
from bufpool_workers.runtime.process import current_runtime
from bufpool_workers.runtime.shared_node import SharedNode
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
    """A node whose main process is another program's: one of its processes serves the scrape."""

    def __init__(self, node: SharedNode, name: str) -> None:
        self._node = node
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


def lead(place: Place, *, software: Mapping[str, str], warm: int, opens: bool) -> ExitStack:
    """Prepare a node and serve its scrape; the end of what is returned ends that.

    Then what the node counted is logged, and the pools of this process are closed. `warm` is the
    number of processes that warm up. `opens` is False where children perform the jobs: this process
    keeps no private key. A mistake that the user can mend ends the process with one line.
    """
    runtime = current_runtime()
    with ExitStack() as ends:
        with startup.errors_as_exit():
            settings = runtime.settings
            runtime.load_late_imports(store="bufpool_workers.redis_store")
            if warm:
                runtime.node.check_warm(processes=warm)
            ends.callback(place.leave)
            place.start(settings, software)
            startup.check(settings)
            if settings.metrics_port is not None:
                ends.callback(place.serve())
        if not opens:
            runtime.keys.keep_out()
        runtime.node.share_metrics()
        ends.callback(runtime.stop_process)
        ends.callback(runtime.node.log_totals)
        return ends.pop_all()
