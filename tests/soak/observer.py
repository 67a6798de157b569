"""Scrapes the nodes while they work, and looks for counters that step back."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.task_log import TaskLog
from tests.soak.worker_node import Node
from tests.support.scrape import Samples

SKIPPED = ("bufpool_skipped_files",)
_PACE_SECONDS = 0.5


@dataclass
class Series:
    """What is plotted; times are in seconds since the soak began, None where a scrape failed."""

    seconds: list[float] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    scrape_seconds: list[float | None] = field(default_factory=list)
    hit_rate: list[float | None] = field(default_factory=list)


class Observer:
    """A thread that looks at every node twice a second until it is closed."""

    def __init__(self, nodes: list[Node], *, task_log: TaskLog, began: float, before: int) -> None:
        self.series = Series()
        self.scrapes = self.failed = 0
        self._error: BaseException | None = None
        self.steps_back: list[str] = []
        self.skipped_files = 0.0
        self._nodes, self._ledger, self._began, self._before = nodes, task_log, began, before
        self._last: dict[Path, Samples] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer")
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._over.wait(_PACE_SECONDS):
                self._look()
        except BaseException as error:  # noqa: BLE001 - raised by close()
            self._error = error

    def _look(self) -> None:
        looks = [node.look() for node in self._nodes]
        series = self.series
        series.seconds.append(time.monotonic() - self._began)
        series.ended.append(self._before + len(self._ledger.ended))
        series.rss_bytes.append(sum(look.rss_bytes for look in looks))
        series.fds.append(sum(look.fds for look in looks))
        files = {node.metrics: look.files for node, look in zip(self._nodes, looks, strict=True)}
        series.files.append(sum(files.values()))
        took = [look.scrape_seconds for look in looks if look.scrape_seconds is not None]
        series.scrape_seconds.append(max(took, default=None))
        rates = [look.samples.get(("bufpool_global_hit_rate",)) for look in looks]
        series.hit_rate.append(next((rate for rate in rates if rate is not None), None))
        self.scrapes += len(took)
        self.failed += len(looks) - len(took)
        for node, look in zip(self._nodes, looks, strict=True):
            if look.scrape_seconds is not None:
                self._compare(node, look.samples)

    def _compare(self, node: Node, samples: Samples) -> None:
        counters = {key: value for key, value in samples.items() if key[0].endswith("_total")}
        for key, before in self._last.get(node.metrics, {}).items():
            now = counters.get(key, 0.0)  # one that is gone begins again at zero
            if now < before:
                self.steps_back.append(f"{node.name}: {key}: {before:g} to {now:g}")
        self._last[node.metrics] = counters
        self.skipped_files = max(self.skipped_files, samples[SKIPPED])

    def close(self) -> None:
        """End it; raises what went wrong while it looked."""
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
