"""A worker node under load: started, restarted, looked at from outside."""

import contextlib
import http.client
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.support.celery_worker import STOP_SECONDS, CeleryWorker
from tests.support.checkout import CHECKOUT
from tests.support.ports import free_port
from tests.support.scrape import Samples, read_samples
from tests.support.waiting import wait_until

CHILDREN = 2
_SCRAPE_SECONDS = 2
_LONGEST_TASK_SECONDS = 20  # what is to meet its soft limit meets none once the worker is stopping

_GAVE_UP = "Unrecoverable error: AttributeError(\"'NoneType' object has no attribute 'hostname'\")"


class Look(NamedTuple):
    """A node at one moment; a scrape that failed has neither seconds nor samples."""

    rss_bytes: int
    fds: int
    files: int
    scrape_seconds: float | None
    samples: Samples


class Node:
    """`celery worker` with two children, a metrics directory and an endpoint of its own."""

    def __init__(
        self, name: str, *, broker: str, folder: Path, metrics: Path, settings: dict[str, Any]
    ) -> None:
        self.name, self.metrics = name, metrics
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._options: dict[str, Any] = {
            "broker": broker,
            "folder": CHECKOUT,
            "log": folder / f"{name}.log",
            "name": name,
            "arguments": [f"--concurrency={CHILDREN}"],
            "settings": {**settings, "bufpool_metrics_port": port},
            "env": {
                "PROMETHEUS_MULTIPROC_DIR": str(metrics),
                "SOAK_FOLDER": str(folder),
            },
        }
        self.gave_up = 0
        self.worker = CeleryWorker("tests.soak.soak_app:app", **self._options)

    def wait_ready(self) -> None:
        """Wait until it consumes."""
        self.worker.wait_ready()

    def restart(self) -> None:
        """Start it again after its end."""
        self.worker.close()
        self.worker = CeleryWorker("tests.soak.soak_app:app", **self._options)
        self.worker.wait_ready()

    def supervise(self) -> None:
        """Start it again where its main process gave up, as a service manager does.

        With a message that is not yet acknowledged Celery's main process may end when its Redis
        does: `_GAVE_UP` in kombu 5.7, with any app.
        """
        if self.worker.exit_status is not None:
            self.gave_up += 1
            self.restart()

    def stop(self) -> int:
        """End it as an operator would; return its exit status, 0 for one that was giving up."""
        self.supervise()
        self.worker.send_signal(signal.SIGTERM)
        status = self.worker.wait(timeout_seconds=_LONGEST_TASK_SECONDS + STOP_SECONDS)
        # it may be long at its end, without its Redis
        if status and _GAVE_UP in self.worker.log():
            self.gave_up += 1
            return 0
        return status

    def close(self) -> None:
        """End whatever is left of it."""
        self.worker.close()

    def children(self) -> list[psutil.Process]:
        """The processes that run its tasks."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.worker.pid).children()
        return []

    def wait_for_children(self) -> None:
        """Wait until there are as many as there have to be."""

        def is_whole() -> bool:
            self.supervise()
            return len(self.children()) == CHILDREN

        wait_until(is_whole, what=f"{CHILDREN} children of {self.name}", timeout_seconds=60)

    def look(self) -> Look:
        """Scrape it, and ask the system about it."""
        began = time.monotonic()
        seconds, samples = None, {}
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            samples = read_samples(self._url, timeout_seconds=_SCRAPE_SECONDS)
            seconds = time.monotonic() - began
        rss = fds = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.worker.pid)
            fds = main.num_fds()
            rss = sum(process.memory_info().rss for process in (main, *main.children()))
        return Look(rss, fds, len(list(self.metrics.glob("*.db"))), seconds, samples)
