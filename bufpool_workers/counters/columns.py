"""Many files of one layout read by columns: a file at once, not by the entry.

Nothing is taken for granted: the bytes between the values, which are the keys, are compared each
time. Where they are other ones, or an entry makes no sense, the file is read entry by entry.
"""

import math
import struct
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, Self

from bufpool_workers.counters._values import read_values
from bufpool_workers.counters.format import (
    HEADER,
    SUMMED,
    VALUE_BYTES,
    DamagedFileError,
    Number,
    check_key,
    entry_bytes,
    parse_key,
    read_used,
    unpack_entries,
)
from bufpool_workers.counters.layout import check_live_version
from bufpool_workers.counters.names import FileName
from bufpool_workers.counters.tasks import tasks_in

Row = Sequence[Any]
"""A file's values in the order of its keys: an array for kinds that are summed, else Numbers."""

# A file with holes takes no room, and may have ten million entries without a key, which each scrape
# would look at for a minute.
MOST_DAMAGED: Final = 1000


class Shape:
    """The keys of files of one layout; `keys` of two that are equal are one object."""

    __slots__ = ("__weakref__", "_families", "_image", "_places", "_tasks", "_timed", "keys")

    def __init__(self, keys: tuple[bytes, ...], *, families: Iterable[str] | None = None) -> None:
        self.keys = keys
        self._families = None if families is None else frozenset(families)
        self._tasks: int | None = None

    @property
    def tasks(self) -> int:
        """The number of tasks that it has numbers of."""
        if self._tasks is None:
            self._tasks = len(tasks_in(self.keys))
        return self._tasks

    @property
    def families(self) -> frozenset[str]:
        """The metrics that its keys are of."""
        if self._families is None:
            self._families = frozenset(parse_key(key).family for key in self.keys)
        return self._families

    def learn(self, data: bytes, start: int, *, timed: bool) -> Self:
        """Keep what lies between the values of a file of this shape, whose entries begin there."""
        lengths = (entry_bytes(key) for key in self.keys)
        ends = [0, *accumulate(lengths)]
        self._timed = timed
        self._image = data[start : start + ends[-1]]
        self._places = struct.pack(f"={len(self.keys)}i", *(end - VALUE_BYTES for end in ends[1:]))
        return self

    def read(self, data: bytes, *, start: int, end: int, counts: bool) -> Row | None:
        """Read a file's values; None if it is of another shape, or not all make sense."""
        if len(self._image) != end - start:
            return None
        timed = self._timed
        row = read_values(data, start, self._image, self._places, timed=timed, counts=counts)
        return tuple(map(Number, row[::2], row[1::2])) if timed and row else row


class Part(NamedTuple):
    """The entries of a file, or of its gauges; `problem` says what was left out, and why."""

    shape: Shape
    row: Row
    problem: str = ""


class Shapes:
    """The layouts that the last reading met, by the names of files and by their keys."""

    def __init__(self) -> None:
        self._of_file: dict[tuple[str, str], Shape] = {}
        self._of_keys: dict[tuple[str, tuple[bytes, ...]], Shape] = {}
        self._latest: dict[tuple[str, int], Shape] = {}
        self._used_files: dict[tuple[str, str], Shape] = {}
        self._families: dict[str, dict[bytes, str]] = defaultdict(dict)

    def read_file(self, fd: int, name: FileName) -> tuple[Part, bytes]:
        """Read a process's file; return its entries, and of a file of ours its whole content too.

        Raises DamagedFileError if it makes no sense at all.
        """
        is_ours = name.owner is not None
        data, used = read_used(fd, whole=is_ours)
        if is_ours:
            check_live_version(data)
        between = HEADER.size, used
        return self.read(data, between, kind=name.kind, file=name.name, counts=is_ours), data

    def read(
        self, data: bytes, between: tuple[int, int], *, kind: str, file: str, counts: bool = False
    ) -> Part:
        """Read the entries between two offsets; `counts`: no value is negative or not finite."""
        start, end = between
        if not start < end <= len(data):
            return salvage(data, start=start, end=end, kind=kind, counts=counts)
        size = kind, end - start
        for shape in (self._of_file.get((file, kind)), self._latest.get(size)):
            row = shape.read(data, start=start, end=end, counts=counts) if shape else None
            if shape and row is not None:
                break
        else:
            shape = self._find(data, start=start, end=end, kind=kind)
            row = shape.read(data, start=start, end=end, counts=counts) if shape else None
        if shape is None or row is None:
            return salvage(data, start=start, end=end, kind=kind, counts=counts)
        self._latest[size] = self._used_files[file, kind] = shape
        return Part(shape, row)

    def _find(self, data: bytes, *, start: int, end: int, kind: str) -> Shape | None:
        checked = self._families[kind]  # a file that grows has all its keys but the last here
        new: dict[bytes, str] = {}
        found: list[bytes] = []
        try:
            for key, _ in unpack_entries(data, start=start, end=end):
                if key not in checked and key not in new:
                    new[key] = sys.intern(check_key(key, kind=kind).family)
                found.append(key)
        except DamagedFileError:
            return None
        keys = tuple(found)
        known = self._of_keys.get((kind, keys))
        if known:  # its bytes between may differ, in padding
            return known
        if len(set(keys)) != len(keys):
            return None
        checked |= new  # of shapes alone: they are forgotten with these
        shape = Shape(keys, families=map(checked.__getitem__, keys))
        self._of_keys[kind, keys] = shape.learn(data, start, timed=kind not in SUMMED)
        return shape

    def forget_unused(self) -> None:
        """Forget what was not met since the last call."""
        self._of_file, self._used_files = self._used_files, {}
        used = set(self._of_file.values())
        self._latest = {at: shape for at, shape in self._latest.items() if shape in used}
        kept = {at: shape for at, shape in self._of_keys.items() if shape in used}
        if len(kept) < len(self._of_keys):
            self._of_keys = kept
            self._forget_keys()

    def _forget_keys(self) -> None:
        used: dict[str, set[bytes]] = defaultdict(set)
        for kind, keys in self._of_keys:
            used[kind].update(keys)
        for kind, checked in self._families.items():
            if len(checked) > 2 * len(used[kind]):  # seldom, for it takes a while
                self._families[kind] = {key: checked[key] for key in used[kind]}


def salvage(data: bytes, *, start: int, end: int, kind: str, counts: bool = False) -> Part:
    """Read entry by entry, leaving out each that makes no sense."""
    entries: dict[bytes, Number] = {}
    problems: list[str] = []
    try:
        for key, number in unpack_entries(data, start=start, end=end):
            try:
                check_entry(key, number, kind=kind, counts=counts)
            except DamagedFileError as error:
                problems.append(str(error))
                if len(problems) > MOST_DAMAGED:
                    break
            else:
                entries[key] = number
    except DamagedFileError as error:  # what follows can't be told apart
        problems.append(str(error))
    return Part(Shape(tuple(entries)), make_row(kind, entries.values()), _summary(problems))


def make_row(kind: str, numbers: Iterable[Number]) -> Row:
    """Make the row of a file of this kind."""
    return array("d", (each.value for each in numbers)) if kind in SUMMED else tuple(numbers)


def check_entry(key: bytes, number: Number, *, kind: str, counts: bool) -> None:
    """Raise DamagedFileError unless a file of this kind can have the entry."""
    check_key(key, kind=kind)
    if counts and not 0 <= number.value < math.inf:
        raise DamagedFileError(f"{number.value} is not a count, for {key[:80]!r}")


def _summary(problems: list[str]) -> str:
    if not problems:
        return ""
    rest = ", and all that follows" if len(problems) > MOST_DAMAGED else ""
    more = f" (and {len(problems) - 1} more{rest})" if len(problems) > 1 else ""
    return f"left out: {problems[0]}{more}"
