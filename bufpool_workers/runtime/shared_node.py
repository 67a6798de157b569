"""A node whose main process is another program's and knows nothing of this package."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from threading import Event
from typing import Any, Final, TypeVar

from bufpool_workers.counters import private_directory
from bufpool_workers.counters.liveness import ProcessIdentity, current_host_id
from bufpool_workers.errors import MetricsError
from bufpool_workers.runtime.directory import no_private_directory
from bufpool_workers.runtime.process import current_runtime
from bufpool_workers.settings import Settings

T = TypeVar("T")

_ENDPOINT: Final = "endpoint.json"
_LOOK_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 10
"""An endpoint waits so long for its port, which the node before it may still hold."""


def commander(module: str) -> int | None:
    """Return the pid of the program that runs a function of `module` in this process.

    None if no such program started this process.
    """
    target = getattr(multiprocessing.current_process(), "_target", None)
    parent = multiprocessing.parent_process()
    if parent is None or getattr(target, "__module__", None) != module:
        return None
    return parent.pid


class SharedNode:
    """The node of the main process `pid`, in one of its processes.

    They meet in a private directory whose name follows from that process (its pid and its start,
    so that no other node finds it). They count there, where the environment names no metrics
    directory. Raises MetricsError if it can't be made.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._leader = ProcessIdentity.of(pid)
        except ProcessLookupError:
            raise MetricsError(f"process {pid}, which started this one, has ended") from None
        try:
            self.path, self._directory = private_directory.join(self._leader)
        except OSError as error:
            raise no_private_directory(error) from error

    def join(self, settings: Settings) -> None:
        """Choose the metrics directory of this process; raise MetricsError as `Node.join` does."""
        runtime = current_runtime()
        runtime.node.join(private=self.path)
        runtime.node.directory.apply_setting(settings.metrics_dir)

    def start(self, *, name: str, software: Mapping[str, str]) -> None:
        """Prepare the directory, as a main process does, before this process counts."""
        node = f"{name}@{os.uname().nodename}"
        current_runtime().node.start(node=node, app=None, pid=self._leader.pid, software=software)

    def leave(self, *, last: bool = False) -> None:
        """Leave the directory at the end of this process; with `last`, at the end of its node."""
        private_directory.leave(self.path, self._directory, last=last)

    def tell_endpoint(self, settings: Settings) -> None:
        """Write down how the node is served, for a process that can't read the app's settings."""
        values: dict[str, Any] = {
            name: dict(value) if isinstance(value := getattr(settings, name), Mapping) else value
            for name in Settings.__dataclass_fields__
            if name.startswith("metrics_") or name == "compact_foreign"
        }
        content = json.dumps(values).encode()
        self._directory.replace(_ENDPOINT, content, prefix=f".{_ENDPOINT}-")

    def endpoint_settings(self) -> Settings:
        """Return what `tell_endpoint` wrote; MetricsError if nothing was written."""
        try:
            with self._directory.open(_ENDPOINT) as fd, open(fd, closefd=False) as file:
                return Settings.read(json.load(file))
        except FileNotFoundError:
            raise MetricsError("no process of this node has set up the endpoint") from None

    def serve(self, stop: Event) -> None:
        """Serve the node's scrape until its main process ends, or `stop` is set.

        One process of the node does it; the others wait here, to do it when that one ends. Raises
        MetricsError if the port stays taken for some seconds.
        """
        while self._is_on(stop):
            with self._turn() as is_ours:
                if is_ours:
                    with closing(self._try(current_runtime().node.serve, stop)):
                        while self._is_on(stop):
                            stop.wait(_LOOK_SECONDS)
            stop.wait(_LOOK_SECONDS)

    def check_endpoint(self) -> None:
        """Check that the node can be served, unless another of its processes does one or the other.

        For processes that do not serve it themselves, and are not to work unseen. Raises
        MetricsError as `serve` does.
        """
        with self._turn() as is_ours:
            if is_ours:
                self._try(current_runtime().node.check_endpoint, Event())

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Yield whether this process may serve; then no other process of the node may meanwhile."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(".serving", flags, 0o600, dir_fd=self._directory.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(fd)

    def _try(self, listen: Callable[[], T], stop: Event) -> T:
        last = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return listen()
            except MetricsError as error:
                if not _is_taken(error) or time.monotonic() > last or not self._is_on(stop):
                    raise
            stop.wait(_LOOK_SECONDS)

    def _is_on(self, stop: Event) -> bool:
        is_led = self._leader.is_running(host_id=current_host_id())
        return bool(is_led) and not stop.is_set()


def _is_taken(error: BaseException | None) -> bool:
    """Return whether the address of an endpoint has another process listening."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is not None and error.errno == errno.EADDRINUSE
