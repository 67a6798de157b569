"""The last hour of a directory's numbers, in one small ring file that all servers share."""

from __future__ import annotations

import fcntl
import math
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from itertools import islice
from typing import Any, Final, NamedTuple, Self

from bufpool_workers._record import record_class
from bufpool_workers.counters.directory import Directory
from bufpool_workers.counters.format import DamagedFileError

INTERVAL_SECONDS: Final = 15
SLOTS: Final = 240
EVENTS: Final = ("damages", "unlocked", "limit_hits", "escapes", "reclaims", "refused")
"""The counters of which it is kept when they last grew, in the file's order."""

NAME: Final = ".bufpool-history"
_MAGIC: Final = b"bufpool\x02"
_STATE: Final = struct.Struct(f"=8sd{2 * len(EVENTS)}d")  # magic, began, counts, times
_SAMPLE: Final = struct.Struct("=dddd")
_CHECK: Final = struct.Struct("=Ixxxx")
_HEAD_BYTES: Final = _STATE.size + _CHECK.size
_SLOT_BYTES: Final = _SAMPLE.size + _CHECK.size
_FILE_BYTES: Final = _HEAD_BYTES + SLOTS * _SLOT_BYTES


class Sample(NamedTuple):
    """The sums of a moment, in Unix seconds."""

    at: float
    gets: float
    hits: float
    held_bytes: float


@record_class(frozen=True, kw_only=True, slots=True)
class History:
    """The samples of the last hour, the oldest first.

    `began` is when sampling began. `last_seen` maps those of EVENTS to the moment since then at
    which they last grew.
    """

    began: float
    samples: tuple[Sample, ...] = ()
    last_seen: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON."""
        return {
            "began": self.began,
            "samples": [list(sample) for sample in self.samples],
            "last_seen": dict(self.last_seen),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Read what `as_dict` returned."""
        return cls(
            began=float(given["began"]),
            samples=tuple(Sample(*map(float, each)) for each in given["samples"]),
            last_seen={name: float(at) for name, at in given["last_seen"].items()},
        )


def record(
    directory: str | os.PathLike[str], sample: Sample, counts: Callable[[str], float]
) -> None:
    r"""Write a sample into its slot of the ring, unless another server has filled that.

    ::

        0    8 bytes b"bufpool\x02", float64 began
        16   float64 count of each of EVENTS, then float64 when it last grew (0: not since)
             uint32 CRC-32 of all before, 4 bytes
        120  slots: float64 at, gets, hits, held_bytes; uint32 CRC-32 of these, 4 bytes

    The slot is that of the moment: 15 seconds each, an hour in all. Damaged parts are written
    again. `counts` returns the count of each of EVENTS. Raises OSError when it can't be written,
    DamagedFileError for what is no file of ours.
    """
    with Directory(directory, counting=True) as folder:
        with suppress(FileExistsError):
            os.close(folder.create(NAME))
        with folder.open_own(NAME) as fd:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another server writes one now
            _record(fd, sample, [counts(name) for name in EVENTS])


def _record(fd: int, sample: Sample, counts: list[float]) -> None:
    content = os.pread(fd, _FILE_BYTES, 0)
    slot = int(sample.at // INTERVAL_SECONDS) % SLOTS
    at = _HEAD_BYTES + slot * _SLOT_BYTES
    before = _unpack(_SAMPLE, content[at : at + _SLOT_BYTES])
    if before is not None and abs(before[0] - sample.at) < INTERVAL_SECONDS:
        return
    head = _unpack(_STATE, content[:_HEAD_BYTES])
    if head is None or head[0] != _MAGIC:
        began, known, times = sample.at, counts, [0.0] * len(EVENTS)
    else:
        began, numbers = head[1], head[2:]
        known, times = list(numbers[: len(EVENTS)]), list(numbers[len(EVENTS) :])
    times = [
        sample.at if now > then else seen
        for now, then, seen in zip(counts, known, times, strict=True)
    ]
    _write(fd, _pack(_SAMPLE, *sample), at=at)
    _write(fd, _pack(_STATE, _MAGIC, began, *counts, *times), at=0)


def read_history(directory: str | os.PathLike[str], *, now: float) -> History | None:
    """Read the last hour; None where nobody has sampled it, or what did can't be read."""
    content = b""
    with (
        suppress(OSError, DamagedFileError),
        Directory(directory) as folder,
        folder.open_trusted(NAME) as fd,
    ):
        content = os.pread(fd, _FILE_BYTES, 0)
    head = _unpack(_STATE, content[:_HEAD_BYTES])
    if head is None or head[0] != _MAGIC:
        return None
    slots = (content[at : at + _SLOT_BYTES] for at in range(_HEAD_BYTES, _FILE_BYTES, _SLOT_BYTES))
    samples = (Sample(*found) for slot in slots if (found := _unpack(_SAMPLE, slot)))
    times = zip(EVENTS, islice(head, 2 + len(EVENTS), None), strict=True)
    return History(
        began=head[1],
        samples=tuple(
            sorted(s for s in samples if now - SLOTS * INTERVAL_SECONDS < s.at <= now + 1)
        ),
        last_seen={name: at for name, at in times if at},
    )


def _pack(layout: struct.Struct, *values: Any) -> bytes:
    packed = layout.pack(*values)
    return packed + _CHECK.pack(zlib.crc32(packed))


def _unpack(layout: struct.Struct, content: bytes) -> tuple[Any, ...] | None:
    """Return what `_pack` packed; None for anything else."""
    if len(content) != layout.size + _CHECK.size:
        return None
    packed = content[: layout.size]
    if _CHECK.unpack(content[layout.size :])[0] != zlib.crc32(packed):
        return None
    values = layout.unpack(packed)
    return values if all(math.isfinite(v) for v in values if isinstance(v, float)) else None


def _write(fd: int, content: bytes, *, at: int) -> None:
    if os.pwrite(fd, content, at) != len(content):  # a full disk; the check sum shows it
        raise OSError("written in part")
