"""Binds the pools of each process to its own counter file.

Imports `bufpool_workers.metrics` where it uses it, because that imports prometheus_client, which
must not happen before there is a metrics directory.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bufpool_workers.errors import MetricsError
from bufpool_workers.memory import BufferPool, bind_gauges
from bufpool_workers.settings import KINDS, Settings
from bufpool_workers.worker import metricsdir

if TYPE_CHECKING:
    from bufpool_workers.metrics import CounterFile

logger = logging.getLogger(__name__)


class Counting:
    """Where the pools of this process count, one file for each set of pools.

    After a fork, and when pools are made anew, counting begins at zero in another file, and what
    the first one says stays in the sums.
    """

    def __init__(self) -> None:
        self.source: Callable[[], Settings] = Settings
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()  # one that a thread held at the fork would stay locked
        self._file: CounterFile | None = None
        self._trimmed = 0.0
        self._bound: set[str] = set()

    def check(self) -> None:
        """Make sure that a process can count here.

        Raises MetricsError that says what to do when the directory is missing, full or read-only.
        """
        directory = metricsdir.directory()
        if directory is not None:
            file = self._create(directory, labels=("check",))
            file.path.unlink()
            file.close()

    def bind(self, pool: BufferPool) -> None:
        """Let the pool count in this process's file; in private memory when there is none.

        Is called before the pool's first store in a process. A file that can't be had is logged,
        not raised: it costs numbers, while an exception here would cost tasks.
        """
        directory = metricsdir.directory()
        if directory is None:
            return
        with self._lock:
            if not self._bound or pool.kind in self._bound:
                self._bound.clear()
                self._begin_file(directory, labels=pool.labels)
            self._bound.add(pool.kind)
            if self._file is not None:
                pool.bind_counters(self._file.buffer, self._file.offsets(pool.kind))

    def describe(self, *, warm: bool) -> None:
        """Tell the scrape whether the warm-up, which is over, was complete."""
        if self._file is not None:
            from bufpool_workers import metrics  # noqa: PLC0415 - see above

            self._file.set_gauge(metrics.WARMED, float(warm))

    def is_trim_asked(self) -> bool:
        """Whether `celery control bufpool_trim` has asked this process since the last call."""
        if self._file is None or (asked := self._file.trim_asked()) == self._trimmed:
            return False
        self._trimmed = asked
        return True

    def _begin_file(self, directory: Path, *, labels: tuple[str, ...]) -> None:
        from bufpool_workers import metrics  # noqa: PLC0415 - see above

        before = self._file
        try:
            self._file = file = self._create(directory, labels=labels)
        except MetricsError:
            self._file = None
            logger.exception("bufpool: the buffers of this process are in no scrape")
        else:
            # the core keeps them from here on
            level, locked = map(file.gauge_offset, (metrics.SECURE_LEVEL, metrics.LOCKED_BYTES))
            bind_gauges(file.buffer, level=level, locked=locked)
        if before is not None:
            before.retire()

    def _create(self, directory: Path, *, labels: tuple[str, ...]) -> CounterFile:
        from bufpool_workers import metrics  # noqa: PLC0415 - see above

        settings = self.source()
        catalog = metrics.Catalog(settings.metrics_namespace)
        file = metrics.CounterFile.create(
            directory, catalog=catalog, pools=dict.fromkeys(KINDS, labels)
        )
        try:
            metrics.compact_if_crowded(directory, foreign=settings.compact_foreign)
        except OSError as error:
            logger.warning("bufpool: files of dead processes can't be merged: %s", error)
        return file


counting: Final = Counting()
"""This process's; a process has one set of pools at a time."""
