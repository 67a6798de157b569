"""What tasks know to have happened, kept so that a SIGKILL at any moment loses none of it.

Each process notes every operation twice in a mapped file of its own, before and after it, by
plain stores: the pool's counter has to lie between the two sums. They differ by what was under way
when a process was killed or a task interrupted, and by nothing else.
"""

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bufpool_workers.settings import KINDS, Settings

SIZES = tuple(Settings().size_classes)
EVENTS = ("gets", "puts", "escapes", "reclaims")
_SUFFIX = ".truth"
_CELLS = 1 + len(KINDS) * len(SIZES) * len(EVENTS) * 2


class Bounds(NamedTuple):
    """How often an event was begun, and how often it was known to be done."""

    begun: int
    done: int


class Row:
    """The events of one size of one kind in this process."""

    def __init__(self, cells: memoryview, start: int) -> None:
        self._cells, self._start = cells, start

    def begin(self, *events: str) -> None:
        """Note that these are about to happen."""
        for event in events:
            self._cells[self._start + 2 * EVENTS.index(event)] += 1

    def done(self, *events: str) -> None:
        """Note that these have happened."""
        for event in events:
            self._cells[self._start + 2 * EVENTS.index(event) + 1] += 1


class ExpectedCounts:
    """This process's file."""

    def __init__(self, folder: Path) -> None:
        self.pid = os.getpid()
        path = folder / f"{self.pid}-{os.urandom(4).hex()}"
        with path.open("xb+") as file:
            file.truncate(8 * _CELLS)
            self._cells = memoryview(mmap.mmap(file.fileno(), 8 * _CELLS)).cast("q")
        path.rename(path.with_suffix(_SUFFIX))

    @property
    def is_counted(self) -> bool:
        """True if the process has a counter file, and with it all numbers that it ever counted."""
        return bool(self._cells[0])

    @is_counted.setter
    def is_counted(self, there: bool) -> None:
        self._cells[0] = there

    def row(self, kind: str, nbytes: int) -> Row:
        """Return the row of the class that serves `nbytes`."""
        return Row(self._cells, _start(kind, bisect_left(SIZES, nbytes)))


def _start(kind: str, size: int) -> int:
    return 1 + (KINDS.index(kind) * len(SIZES) + size) * len(EVENTS) * 2


def read(folder: Path, *, of: str = "*") -> dict[tuple[str, int, str], Bounds]:
    """Sum up the files of all processes that counted (or of one), by kind, class size, event."""
    sums: dict[tuple[str, int, str], Bounds] = {}
    for cells in _files(folder, of):
        if not cells[0]:
            continue
        for kind in KINDS:
            for i, size in enumerate(SIZES):
                for j, event in enumerate(EVENTS):
                    at = _start(kind, i) + 2 * j
                    before = sums.get((kind, size, event), Bounds(0, 0))
                    sums[kind, size, event] = Bounds(
                        before.begun + cells[at], before.done + cells[at + 1]
                    )
    return sums


def count_uncounted(folder: Path) -> int:
    """Count the processes that worked, and ended, without a counter file."""
    return sum(not cells[0] for cells in _files(folder))


def _files(folder: Path, of: str = "*") -> Iterator[memoryview]:
    for path in folder.glob(f"{of}-*{_SUFFIX}"):
        yield memoryview(path.read_bytes()).cast("q")
