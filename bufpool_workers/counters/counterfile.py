"""The file in which one process counts."""

import math
import mmap
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Self

from bufpool_workers.counters import catalog as names
from bufpool_workers.counters.directory import Identity
from bufpool_workers.counters.format import pack_entry
from bufpool_workers.counters.layout import DOUBLE, TRIM_ASKED, Layout, empty_image
from bufpool_workers.counters.liveness import ProcessIdentity
from bufpool_workers.counters.mappedfile import MappedFile
from bufpool_workers.counters.names import own_name, peak_name
from bufpool_workers.counters.tasks import MOST_TASKS, OTHER_TASKS

_layout: Final = lru_cache(maxsize=4)(Layout)  # made before a fork, it costs the children nothing
_PLACES_BYTES: Final = 32 * 1024
_PLACE_CHARACTERS: Final = 160
_TASKS_BYTES: Final = 112 * 1024
_PEAKS_BYTES: Final = 40 * 1024
_TASK_CHARACTERS: Final = 160


class TaskPlaces(NamedTuple):
    """The places of a task's numbers: each of TASK_COUNTERS, and the peak in a block of its own.

    `task` is the name that counts for it.
    """

    task: str
    offsets: tuple[int, ...]
    peaks: mmap.mmap
    peak: int


class CounterFile(MappedFile):
    r"""A process's counters in a mapped file that any Prometheus multiprocess collector reads.

    ::

        0       int32 used, int32 live
        8       entries, as prometheus_client writes them: the counters
        used    room for more of them, with `places` and `tasks`
        live    8 bytes b"bufpool\x03"
        live+8  entries of the same form: the gauges of a living process, up to the end

    Other readers stop at `used`, and take `live` for padding. Every value is an aligned float64
    that its owner (of TRIM_ASKED: the worker's main process) stores at any time, without a call: a
    reader sees the old or the new one, and SIGKILL loses nothing. All keys are there, and all
    blocks allocated, before the file gets the name by which it is found, so no reader sees half of
    it and no store can fail. A counter that is added later is whole before `used` says that it is
    there. Where no file can be had, or it was removed, the same numbers are kept in memory until
    one can (`publish`).

    With `tasks` there is a second file of the same form, of prometheus_client's kind `gauge_max`,
    of which readers take the largest: the peaks. It has no gauges.

    The lock on it is held as long as `buffer` is mapped. After a fork the child makes its own.
    """

    def __init__(self, layout: Layout, *, path: Path, places: bool, tasks: bool) -> None:
        super().__init__(path, layout.image)
        self._layout = layout
        self._trim_at = layout.gauge_offsets[TRIM_ASKED]
        self._places_left = _PLACES_BYTES if places else 0
        self._tasks: dict[str, tuple[tuple[int, ...], int]] = {}
        self._peaks: MappedFile | None = None
        if tasks:
            peaks = path.with_name(peak_name(path.name))
            self._peaks = MappedFile(peaks, empty_image(_PEAKS_BYTES))
            self._add_task(OTHER_TASKS)

    @classmethod
    def allocate(
        cls,
        directory: str | os.PathLike[str],
        *,
        catalog: names.Catalog,
        pools: Mapping[str, Sequence[str]],
        places: bool = False,
        tasks: bool = False,
    ) -> Self:
        """Lay out the calling process's numbers in private memory, which `publish` makes a file.

        `pools` maps pools to size labels. `places` makes room for `count_escape`: for a hundred
        places or more; `tasks` for `places_of`.
        """
        sizes = tuple((pool, tuple(labels)) for pool, labels in pools.items())
        room = (_PLACES_BYTES if places else 0) + (_TASKS_BYTES if tasks else 0)
        layout = _layout(catalog, pools=sizes, room=room)
        path = Path(directory, own_name(ProcessIdentity.current()))
        return cls(layout, path=path, places=places, tasks=tasks)

    def _move(self, buffer: mmap.mmap, found: Identity) -> None:
        super()._move(buffer, found)
        self._tasks = dict(self._tasks)

    def publish(self) -> Self:
        """Put the peaks and the numbers into files, as MappedFile does."""
        # first: should the other fail, a peak that is found twice counts once
        peaks = self._peaks and self._peaks.publish()
        published = super().publish()
        published._peaks = peaks  # noqa: SLF001 - its own class
        return published

    @property
    def is_there(self) -> bool:
        """True while its files are found by their names; costs a stat(2) for each."""
        return super().is_there and (self._peaks is None or self._peaks.is_there)

    def offsets(self, pool: str) -> list[int]:
        """Return where a pool's numbers lie: for each label, each of `pool_stats.FIELDS`."""
        return self._layout.pool_offsets[pool]

    def gauge_offset(self, gauge: names.MetricSpec) -> int:
        """Return where one of PROCESS_GAUGES lies."""
        return self._layout.gauge_offsets[gauge]

    def mark_stale(self) -> None:
        """Mark the file's gauges stale (NaN): its process has moved to a new file."""
        for gauge in names.PROCESS_GAUGES:
            self.set_gauge(gauge, math.nan)

    def trim_asked(self) -> float:
        """Return when the process was last asked to trim, in Unix seconds; 0 for never."""
        return float(DOUBLE.unpack_from(self.buffer, self._trim_at)[0])

    def set_gauge(self, gauge: names.MetricSpec, value: float) -> None:
        """Store one of PROCESS_GAUGES."""
        at = self.gauge_offset(gauge)
        self.buffer[at : at + DOUBLE.size] = DOUBLE.pack(value)

    def count_escape(self, *, pool: str, place: str) -> None:
        """Count an escape of a buffer that was acquired at `place`, while there is room for it.

        Two threads may not call it at once.
        """
        text = _printable(place)[-_PLACE_CHARACTERS:]
        key = self._layout.catalog.key(names.ESCAPED_AT, pool=pool, place=text)
        at = self.find(key)
        if not at and (size := len(pack_entry(key))) <= self._places_left:
            self._places_left -= size  # the rest of the room is the tasks'
            at = self.add(key)
        if at:
            self._increment(at)

    def places_of(self, task: str) -> TaskPlaces:
        """Return where a task's numbers lie; those of OTHER_TASKS where there is no more room.

        For MOST_TASKS of them, or fewer with long names. Two threads may not call it at once.
        """
        if self._peaks is None:
            raise ValueError("the file was made without room for tasks")
        name = _printable(task)[-_TASK_CHARACTERS:]
        is_known = name in self._tasks or (len(self._tasks) <= MOST_TASKS and self._add_task(name))
        name = name if is_known else OTHER_TASKS
        offsets, peak = self._tasks[name]
        return TaskPlaces(name, offsets, self._peaks.buffer, peak)

    def _add_task(self, task: str) -> bool:
        catalog, peaks = self._layout.catalog, self._peaks
        offsets = tuple(self.add(catalog.key(spec, task=task)) for spec in names.TASK_COUNTERS)
        peak = peaks.add(catalog.key(names.TASK_PEAK, task=task)) if peaks else 0
        if all(offsets) and peak:
            self._tasks[task] = offsets, peak
        return task in self._tasks

    def count_unseal(self, failure: str | None) -> None:
        """Count a sealed argument that was opened, or that was not for one of UNSEAL_FAILURES.

        Two threads may not call it at once.
        """
        catalog = self._layout.catalog
        key = (
            catalog.key(names.UNSEALED)
            if failure is None
            else catalog.key(names.UNSEAL_FAILED, reason=failure)
        )
        self._increment(self._layout.process_counters[key])

    def _increment(self, at: int) -> None:
        (value,) = DOUBLE.unpack_from(self.buffer, at)
        self.buffer[at : at + DOUBLE.size] = DOUBLE.pack(value + 1)

    def remove(self) -> None:
        """Remove the file, and that of the peaks; unmap both."""
        super().remove()
        if self._peaks:
            self._peaks.remove()

    def close(self) -> None:
        """Unmap the file, and that of the peaks, which frees their locks; compaction finds both.

        Raises BufferError while a pool is bound to it.
        """
        super().close()
        if self._peaks:
            self._peaks.close()


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()  # a name may be anything
