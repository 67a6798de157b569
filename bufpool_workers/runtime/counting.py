"""Binds the pools of each process to its own counter file."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bufpool_workers import counters
from bufpool_workers.errors import MetricsError, PoolClosed
from bufpool_workers.memory import BufferPool, TaskTally, _core, bind_gauges
from bufpool_workers.pool_stats import KINDS

if TYPE_CHECKING:
    from bufpool_workers.runtime.process import Runtime

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_CHILDREN_TO_MERGE = 50


class CounterBinding:
    """The counter files of this process, one for each set of pools.

    When new pools replace the old ones, counting begins at zero in another file; the numbers of
    the first one stay in the sums. The child of a fork makes a binding of its own.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.RLock()  # what is collected while it is held may escape a buffer
        self._file: counters.CounterFile | None = None
        self._bound: dict[str, BufferPool] = {}
        self._tallies: dict[str, TaskTally] = {}
        self._is_lost = False
        self._trimmed = 0.0
        self._ended_children = 0
        self._seen = 0, 0.0

    def check(self) -> None:
        """Make sure that a process can count here.

        Raises MetricsError that says what to do when the directory is missing, full or read-only.
        """
        directory = self._runtime.node.metrics_directory
        if directory is not None:
            labels = self._runtime.pools.regular.labels
            self._allocate(directory, labels=labels).publish().remove()

    def bind(self, pool: BufferPool) -> None:
        """Make the pool count in this process's file; in private memory where there is none.

        There is none in a process without a host, such as a script that a task runs.
        Is called before the pool's first store in a process. A file that can't be made is
        logged, not raised: it costs numbers, while an exception here would cost tasks.
        """
        directory = self._runtime.node.metrics_directory if self._runtime.hosts else None
        if directory is None:
            return
        with self._lock:
            if self._file is None or pool.kind in self._bound:
                self._bound.clear()
                self._tallies.clear()  # they count on in the old file for jobs that have them
                before = self._file
                self._publish(self._allocate(directory, labels=pool.labels))
                if before is not None:
                    before.mark_stale()
            self._bound[pool.kind] = pool
            self._move(pool, self._file)

    def ensure_file(self) -> None:
        """Make this process's file again where it was removed, or could not be made before.

        For the ends of tasks. All numbers that this process counted move along. It looks for the
        file, by one stat(2), where a buffer was lent since the last time, else once a second.
        """
        if self._file is None:
            return
        lent, now = _core.checkouts(), time.monotonic()
        if lent == self._seen[0] and now < self._seen[1] + _LOOK_SECONDS:
            return
        self._seen = lent, now
        if self._file.is_there:
            return
        with self._lock:
            self._publish(self._file)

    def _publish(self, file: counters.CounterFile) -> None:
        self._runtime.node.directory.recreate()
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
            if self._runtime.compacts:
                self.compact(file.path.parent, above=counters.MAX_UNMERGED_FILES)
        self._bind_gauges(file)
        for pool in self._bound.values():
            self._move(pool, file)
        for task, tally in self._tallies.items():
            _bind_tally(tally, file, file.places_of(task))
        self._file = file  # last: an exception on the way, such as a time limit, has it done again

    @staticmethod
    def _move(pool: BufferPool, file: counters.CounterFile | None) -> None:
        if file is not None:
            with suppress(PoolClosed):  # its last numbers are in the file already
                pool.bind_counters(file.buffer, file.offsets(pool.kind))

    def tally(self, task: str) -> TaskTally:
        """Return what counts for a task in this process, for all beyond some hundred the same."""
        with self._lock:
            file = self._file
            places = None if file is None else file.places_of(task)
            name = counters.OTHER_TASKS if places is None else places.task
            tally = self._tallies.get(name)
            if tally is None:
                tally = TaskTally()
                if file is not None and places is not None:
                    _bind_tally(tally, file, places)
                self._tallies[name] = tally
            return tally

    @staticmethod
    def _bind_gauges(file: counters.CounterFile) -> None:
        bind_gauges(
            file.buffer,
            level=file.gauge_offset(counters.SECURE_LEVEL),
            locked=file.gauge_offset(counters.LOCKED_BYTES),
        )

    def note_escape(self, kind: str, place: str) -> None:
        """Count an escape by the place where its buffer was acquired."""
        with self._lock:
            if self._file is not None:
                self._file.count_escape(pool=kind, place=place)

    def count_unseal(self, failure: str | None = None) -> None:
        """Count a sealed argument that was opened, or the reason why one was not."""
        if self._file is None:
            self._runtime.pools.secure.counters()  # its first use makes the file
        with self._lock:
            if self._file is not None:
                self._file.count_unseal(failure)

    def set_warmed(self, *, warm: bool) -> None:
        """Record for the scrape whether the warm-up was complete."""
        if self._file is not None:
            self._file.set_gauge(counters.WARMED, float(warm))

    def is_trim_asked(self) -> bool:
        """Return whether a trim was asked of this process since the last call."""
        asked = 0.0 if self._file is None else self._file.trim_asked()
        if not asked or asked == self._trimmed:  # zero: a file of new pools, not asked yet
            return False
        self._trimmed = asked
        return True

    def _allocate(self, directory: Path, *, labels: tuple[str, ...]) -> counters.CounterFile:
        settings = self._runtime.settings
        return counters.CounterFile.allocate(
            directory,
            catalog=counters.Catalog(settings.metrics_namespace),
            pools=dict.fromkeys(KINDS, labels),
            places=settings.debug,
            tasks=settings.task_metrics,
        )

    def child_ended(self) -> None:
        """Merge the files of children that end with their job, which leave it to this process."""
        self._ended_children += 1
        directory = self._runtime.node.metrics_directory
        if directory is not None and self._ended_children % _CHILDREN_TO_MERGE == 0:
            self.compact(directory)

    def compact(self, directory: Path, *, above: int = 0) -> None:
        """Merge the files of the dead in a directory of more than so many; log a failure."""
        try:
            counters.compact_above(above, directory, foreign=self._runtime.settings.compact_foreign)
        except OSError as error:
            logger.warning("bufpool: files of dead processes can't be merged: %s", error)


def _bind_tally(tally: TaskTally, file: counters.CounterFile, places: counters.TaskPlaces) -> None:
    tally.bind(file.buffer, places.offsets, places.peaks, places.peak)
