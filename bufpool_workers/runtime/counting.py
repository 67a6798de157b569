"""Binds the pools of each process to its own counter file."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from bufpool_workers.celery import environment
from bufpool_workers.counters import (
    LOCKED_BYTES,
    MAX_UNMERGED_FILES,
    SECURE_LEVEL,
    WARMED,
    Catalog,
    CounterFile,
    compact_above,
)
from bufpool_workers.errors import MetricsError, PoolClosed
from bufpool_workers.memory import BufferPool, bind_gauges, current_pools
from bufpool_workers.settings import Settings
from bufpool_workers.stats import KINDS

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
        # one that a thread held at the fork would stay locked; what is collected while it is held
        # may escape a buffer
        self._lock = threading.RLock()
        self._file: CounterFile | None = None
        self._bound: dict[str, BufferPool] = {}
        self._is_lost = False
        self._trimmed = 0.0

    def check(self) -> None:
        """Make sure that a process can count here.

        Raises MetricsError that says what to do when the directory is missing, full or read-only.
        """
        directory = environment.directory()
        if directory is not None:
            file = self._allocate(directory, labels=current_pools().regular.labels).publish()
            file.path.unlink()
            file.close()

    def bind(self, pool: BufferPool) -> None:
        """Let the pool count in this process's file; in private memory where there is none.

        Is called before the pool's first store in a process. A file that can't be had is logged,
        not raised: it costs numbers, while an exception here would cost tasks.
        """
        directory = environment.directory()
        if directory is None:
            return
        with self._lock:
            if self._file is None or pool.kind in self._bound:
                self._bound.clear()
                before = self._file
                self._publish(self._allocate(directory, labels=pool.labels))
                if before is not None:
                    before.mark_stale()
            self._bound[pool.kind] = pool
            self._move(pool, self._file)

    def ensure_file(self) -> None:
        """Make this process's file again where it was removed, or could not be made before.

        For the ends of tasks. All numbers that this process counted move along.
        """
        if self._file is None or self._file.is_there:
            return
        with self._lock:
            self._publish(self._file)

    def _publish(self, file: CounterFile) -> None:
        environment.restore()
        try:
            file = file.publish()
        except MetricsError as error:
            if not self._is_lost:
                logger.error(  # noqa: TRY400 - where it was tried says nothing
                    "bufpool: the buffers of this process are in no scrape, which is tried again "
                    "at each task's end: %s",
                    error,
                )
            self._is_lost = True
        else:
            if self._is_lost:
                logger.info("bufpool: the buffers of this process are in the scrape again")
            self._is_lost = False
            self._compact(file.path.parent)
        self._bind_gauges(file)
        for pool in self._bound.values():
            self._move(pool, file)
        self._file = file  # last: an exception on the way, such as a time limit, has it done again

    @staticmethod
    def _move(pool: BufferPool, file: CounterFile | None) -> None:
        if file is not None:
            with suppress(PoolClosed):  # its last numbers are in the file already
                pool.bind_counters(file.buffer, file.offsets(pool.kind))

    @staticmethod
    def _bind_gauges(file: CounterFile) -> None:
        bind_gauges(
            file.buffer,
            level=file.gauge_offset(SECURE_LEVEL),
            locked=file.gauge_offset(LOCKED_BYTES),
        )

    def note_escape(self, kind: str, place: str) -> None:
        """Count an escape by the place where its buffer was acquired."""
        with self._lock:
            if self._file is not None:
                self._file.count_escape(pool=kind, place=place)

    def set_warmed(self, *, warm: bool) -> None:
        """Tell the scrape whether the warm-up, which is over, was complete."""
        if self._file is not None:
            self._file.set_gauge(WARMED, float(warm))

    def is_trim_asked(self) -> bool:
        """Whether `celery control bufpool_trim` has asked this process since the last call."""
        asked = 0.0 if self._file is None else self._file.trim_asked()
        if asked in {0.0, self._trimmed}:  # zero: a file of new pools, which nobody asked yet
            return False
        self._trimmed = asked
        return True

    def _allocate(self, directory: Path, *, labels: tuple[str, ...]) -> CounterFile:
        settings = self.source()
        return CounterFile.allocate(
            directory,
            catalog=Catalog(settings.metrics_namespace),
            pools=dict.fromkeys(KINDS, labels),
            places=settings.debug,
        )

    def _compact(self, directory: Path) -> None:
        try:
            compact_above(MAX_UNMERGED_FILES, directory, foreign=self.source().compact_foreign)
        except OSError as error:
            logger.warning("bufpool: files of dead processes can't be merged: %s", error)


counting: Final = Counting()
"""This process's; a process has one set of pools at a time."""
