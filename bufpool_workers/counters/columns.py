"""Many files of one layout read by columns: by one `struct` for each file, not by the entry.

Nothing is taken for granted: the bytes between the values, which are the keys, are compared each
time. Where they are other ones, or an entry makes no sense, the file is read entry by entry.
"""

import math
import struct
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from bufpool_workers.counters.format import (
    SUMMED,
    DamagedFileError,
    Number,
    check_key,
    parse_key,
    unpack_entries,
)

Row = tuple[Any, ...]
"""A file's values in the order of its keys: floats of kinds that are summed, else Numbers."""


class Shape:
    """The keys of files of one layout; `keys` of two that are equal are one object."""

    __slots__ = ("__weakref__", "_between", "_families", "_struct", "_timed", "keys")

    def __init__(self, keys: tuple[bytes, ...], *, families: Iterable[str] | None = None) -> None:
        self.keys = keys
        self._families = None if families is None else frozenset(families)

    @property
    def families(self) -> frozenset[str]:
        """The metrics that its keys are of."""
        if self._families is None:
            self._families = frozenset(parse_key(key).family for key in self.keys)
        return self._families

    def learn(self, data: bytes, start: int, *, timed: bool) -> Self:
        """Keep what lies between the values of a file of this shape, whose entries begin there."""
        self._timed = timed
        value = "dd" if timed else "d8x"
        entries = (f"{4 + len(key) + 8 - (len(key) + 4) % 8}s{value}" for key in self.keys)
        self._struct = struct.Struct("=" + "".join(entries))
        self._between: Row = self._struct.unpack_from(data, start)[:: 3 if timed else 2]
        return self

    def read(self, data: bytes, *, start: int, end: int) -> Row | None:
        """Read a file's values; None if it is of another shape."""
        if self._struct.size != end - start:
            return None
        words = self._struct.unpack_from(data, start)
        if not self._timed:
            return words[1::2] if words[::2] == self._between else None
        if words[::3] != self._between:
            return None
        return tuple(map(Number, words[1::3], words[2::3]))


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

    def read(
        self, data: bytes, between: tuple[int, int], *, kind: str, file: str, counts: bool = False
    ) -> Part:
        """Read the entries between two offsets; `counts`: no value is negative or not finite."""
        start, end = between
        if not start < end <= len(data):
            return salvage(data, start=start, end=end, kind=kind, counts=counts)
        size = kind, end - start
        for shape in (self._of_file.get((file, kind)), self._latest.get(size)):
            row = shape.read(data, start=start, end=end) if shape else None
            if shape and row is not None:
                break
        else:
            shape = self._find(data, start=start, end=end, kind=kind)
            row = shape.read(data, start=start, end=end) if shape else None
        if shape is None or row is None or (counts and not _are_counts(row)):
            return salvage(data, start=start, end=end, kind=kind, counts=counts)
        self._latest[size] = self._used_files[file, kind] = shape
        return Part(shape, row)

    def _find(self, data: bytes, *, start: int, end: int, kind: str) -> Shape | None:
        checked = self._families[kind]  # a file that grows has all its keys but the last here
        try:
            keys = tuple(key for key, _ in unpack_entries(data, start=start, end=end))
            known = self._of_keys.get((kind, keys))
            if known:  # its bytes between may differ, in padding
                return known
            for key in keys:
                if key not in checked:
                    checked[key] = sys.intern(check_key(key, kind=kind).family)
        except DamagedFileError:
            return None
        if len(set(keys)) != len(keys):
            return None
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


def _are_counts(row: Row) -> bool:
    return not row or (min(row) >= 0 and 0 <= sum(row) < math.inf)


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
            else:
                entries[key] = number
    except DamagedFileError as error:  # what follows can't be told apart
        problems.append(str(error))
    row = tuple(each.value if kind in SUMMED else each for each in entries.values())
    return Part(Shape(tuple(entries)), row, _summary(problems))


def check_entry(key: bytes, number: Number, *, kind: str, counts: bool) -> None:
    """Raise DamagedFileError unless a file of this kind can have the entry."""
    check_key(key, kind=kind)
    if counts and not 0 <= number.value < math.inf:
        raise DamagedFileError(f"{number.value} is not a count, for {key[:80]!r}")


def _summary(problems: list[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"left out: {problems[0]}{more}" if problems else ""
