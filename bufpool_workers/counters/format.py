"""The entries of a multiprocess file, and how the entries of many processes become one.

The form is prometheus_client's (its `mmap_dict.py`), which any of its collectors reads.
"""

import json
import math
import os
import re
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("=i4x")
_LENGTH: Final = struct.Struct("=i")
_VALUES: Final = struct.Struct("=dd")
VALUE_BYTES: Final = _VALUES.size
_LARGEST_BYTES: Final = 256 * 1024 * 1024
_WHOLE_AT_ONCE: Final = 128 * 1024  # most of our files are smaller
_USED_AT_ONCE: Final = 16 * 1024  # most of prometheus_client's, of 1 MiB, have less in use

SUMMED: Final = frozenset({"counter", "histogram", "summary", "gauge_sum", "gauge_livesum"})
_LOWEST: Final = frozenset({"gauge_min", "gauge_livemin"})
_HIGHEST: Final = frozenset({"gauge_max", "gauge_livemax"})
LATEST: Final = frozenset({"gauge_mostrecent", "gauge_livemostrecent"})
PER_PROCESS: Final = frozenset({"gauge_all", "gauge_liveall"})
FILE_KINDS: Final = SUMMED | _LOWEST | _HIGHEST | LATEST | PER_PROCESS
"""The kinds of numbers, as the beginning of a file's name tells them."""

LIVE_ONLY_KINDS: Final = frozenset(kind for kind in FILE_KINDS if "_live" in kind) | PER_PROCESS
"""Kinds whose numbers mean nothing once their process is dead."""


class DamagedFileError(ValueError):
    """A file's content can't be what a counting process wrote."""


class OtherVersionError(DamagedFileError):
    """A file is whole, but of a version of the format that this release doesn't know."""


class Number(NamedTuple):
    """A value and the time at which it was set (0 for all but gauges of mode mostrecent)."""

    value: float
    timestamp: float = 0.0


class Key(NamedTuple):
    """The name of a number: family, sample and labels of a metric, and its help text."""

    family: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    help: str


ZERO: Final = Number(0.0)

# prometheus_client's rules as its writers may apply them: legacy names are a part of its UTF-8
# mode's. JSON can spell half of a surrogate pair, which no scrape could be written with.
_HALF_OF_A_PAIR: Final = re.compile(r"[\ud800-\udfff]")


def read_used(fd: int, *, whole: bool) -> tuple[bytes, int]:
    """Read the content up to what readers may see (all of it if `whole`), and where that ends."""
    size = os.fstat(fd).st_size
    data = os.pread(fd, min(size, _WHOLE_AT_ONCE if whole else _USED_AT_ONCE), 0)
    if len(data) < HEADER.size:  # its owner is about to write the first entry
        return b"", 0
    (used,) = HEADER.unpack_from(data)
    if used > size:  # unless its owner has made it larger since
        size = os.fstat(fd).st_size
    if not 0 <= used <= size or (whole and size > _LARGEST_BYTES) or used > _LARGEST_BYTES:
        raise DamagedFileError(f"{used} bytes used of {size}")
    end = size if whole else used
    return (data[:end] if len(data) >= end else _read_rest(fd, data, end)), used


def _read_rest(fd: int, data: bytes, end: int) -> bytes:
    chunks, at = [data], len(data)
    while at < end and (chunk := os.pread(fd, end - at, at)):
        chunks.append(chunk)
        at += len(chunk)
    return b"".join(chunks)


def check_version(mark: bytes, known: bytes) -> None:
    """Raise OtherVersionError where a mark is `known`'s but for the version, its last byte."""
    if len(mark) == len(known) and mark[:-1] == known[:-1] and mark != known:
        raise OtherVersionError(
            f"it is of the format's version {mark[-1]}, and this release knows {known[-1]}"
        )


def pack_entry(key: bytes, number: Number = ZERO) -> bytes:
    """One entry: int32 key length, key, spaces to the next multiple of 8, value, timestamp."""
    padded = (_LENGTH.pack(len(key)) + key).ljust(entry_bytes(key) - VALUE_BYTES)
    return padded + _VALUES.pack(*number)


def entry_bytes(key: bytes) -> int:
    """Return the length of a key's entry."""
    return 4 + len(key) + 8 - (len(key) + 4) % 8 + VALUE_BYTES


def unpack_entries(data: bytes, *, start: int, end: int) -> Iterator[tuple[bytes, Number]]:
    """Walk the entries between two offsets; raises DamagedFileError where they don't fit."""
    if end > len(data):
        raise DamagedFileError(f"{end} bytes used, but {len(data)} are there")
    length_at, values_at = _LENGTH.unpack_from, _VALUES.unpack_from
    position = start
    while position < end:
        if position + _LENGTH.size > end:
            raise DamagedFileError(f"the entry at byte {position} goes beyond byte {end}")
        (length,) = length_at(data, position)
        key_at = position + 4
        value_at = key_at + length + 8 - (length + 4) % 8
        if length < 0 or value_at + 16 > end:
            raise DamagedFileError(f"the entry at byte {position} goes beyond byte {end}")
        yield data[key_at : key_at + length], Number(*values_at(data, value_at))
        position = value_at + 16


@lru_cache(maxsize=16384)  # of a first scrape; later ones know what they made of each key
def parse_key(key: bytes) -> Key:
    """Read the key of an entry; raises DamagedFileError when it isn't one."""
    try:
        family, sample, labels, text = json.loads(key.decode())
        pairs = tuple(sorted(labels.items()))
        words = "\n".join([family, sample, text, *chain.from_iterable(pairs)])
        if family and sample and not _HALF_OF_A_PAIR.search(words):
            return Key(family, sample, pairs, text)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{key[:80]!r} is no metric's key") from error
    raise DamagedFileError(f"{key[:80]!r} is no metric's key")


def check_key(key: bytes, *, kind: str) -> Key:
    """Read a key; raises DamagedFileError unless a file of this kind can have it."""
    parsed = parse_key(key)
    if kind == "histogram":
        try:
            float(dict(parsed.labels).get("le", 0))
        except ValueError as error:
            raise DamagedFileError(f"{key[:80]!r} is no histogram's key") from error
    return parsed


def merge_numbers(kind: str, numbers: Sequence[Number]) -> Sequence[Number]:
    """Return the few numbers that stand for many of one key; they can be merged again.

    Values that are summed become their correctly rounded sum, then what the rounding left out,
    so that neither the order of files nor a compaction ever changes a total: a total one bit
    lower than at the scrape before is a counter reset to Prometheus.
    """
    if kind in SUMMED:
        return [Number(part) for part in _exact_sum([number.value for number in numbers])]
    if kind in _LOWEST:
        return [min(numbers, key=lambda number: number.value)]
    if kind in _HIGHEST:
        return [max(numbers, key=lambda number: number.value)]
    if kind in LATEST:
        return [max(numbers, key=lambda number: number.timestamp)]
    return numbers


def add_up(values: Sequence[float]) -> float:
    """Return the correctly rounded sum, the first of `merge_numbers`."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # beyond the largest float, or both infinities
        return sum(values)


def _exact_sum(values: list[float]) -> list[float]:
    try:
        parts = [math.fsum(values)]
        while math.isfinite(parts[-1]):
            rest = math.fsum([*values, *(-part for part in parts)])
            if not rest:
                return parts
            parts.append(rest)
    except (OverflowError, ValueError):  # beyond the largest float, or both infinities
        return [sum(values)]
    return parts[:1]
