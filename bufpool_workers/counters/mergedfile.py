"""The file that holds the numbers of dead processes."""

import json
import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from bufpool_workers.counters.columns import Part, Shape, Shapes, make_row
from bufpool_workers.counters.directory import Directory, Identity, identity
from bufpool_workers.counters.format import (
    HEADER,
    SUMMED,
    DamagedFileError,
    Number,
    check_version,
    pack_entry,
    read_used,
)
from bufpool_workers.counters.names import MERGE_PREFIX, SUFFIX, FileName, merged_name

_DEAD: Final = b"bufpool\x02"
_LENGTH: Final = struct.Struct("=i")
# ArithmeticError: an int that no float holds; RecursionError: brackets in brackets
_UNREADABLE: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
    struct.error,
)


class MergedFile(NamedTuple):
    r"""The numbers of dead processes, of one kind.

    ::

        0        int32 used, 4 bytes of padding
        8        entries, as prometheus_client writes them
        used     8 bytes b"bufpool\x02"
        used+8   int32 length, then JSON of that length:
                 {"absorbed": [names], "remainders": {key: [values]}}

    `sources` ("absorbed") names the files whose numbers are in here: they no longer count, and are
    about to be unlinked. `remainders` is what rounding left out of a sum (see merge_numbers).
    `identity` says which file was read, and `moment` when it was made; no other one has that
    identity while it is kept open.
    """

    part: Part
    remainders: Mapping[bytes, Sequence[float]] = MappingProxyType({})
    sources: Collection[str] = ()
    identity: Identity | None = None
    moment: int = 0

    @classmethod
    def of(
        cls, kind: str, numbers: Mapping[bytes, Sequence[Number]], sources: Collection[str]
    ) -> Self:
        """Make one of numbers as `merge_numbers` returns them."""
        row = make_row(kind, (first for first, *_ in numbers.values()))
        rest = {
            key: [each.value for each in parts[1:]] for key, parts in numbers.items() if parts[1:]
        }
        return cls(Part(Shape(tuple(numbers)), row), rest, sources)

    @property
    def numbers(self) -> dict[bytes, list[Number]]:
        """Its numbers by key, each with what rounding left out of it."""
        values = (each if isinstance(each, Number) else Number(each) for each in self.part.row)
        found = {key: [value] for key, value in zip(self.part.shape.keys, values, strict=True)}
        for key, parts in self.remainders.items():
            found[key] += map(Number, parts)
        return found

    @classmethod
    def read(cls, fd: int, *, kind: str, shapes: Shapes | None = None) -> Self:
        """Read the open file of this kind; raises DamagedFileError when it is something else.

        An entry that makes no sense is left out, and the part's problem names it.
        """
        data, used = read_used(fd, whole=True)
        status = os.fstat(fd)
        check_version(data[used : used + len(_DEAD)], _DEAD)
        try:
            if data[used : used + len(_DEAD)] != _DEAD:
                raise DamagedFileError("the list of the files merged into it is missing")
            start = used + len(_DEAD) + _LENGTH.size
            (length,) = _LENGTH.unpack_from(data, start - _LENGTH.size)
            meta = json.loads(data[start : start + length])
            sources = frozenset(map(_checked, meta["absorbed"]))
            remainders = {
                key.encode(): [float(part) for part in parts]
                for key, parts in meta["remainders"].items()
            }
        except _UNREADABLE as error:
            raise DamagedFileError("the list of the files merged into it can't be read") from error
        part = (shapes or Shapes()).read(
            data, (HEADER.size, used), kind=kind, file=merged_name(kind)
        )
        if remainders and (kind not in SUMMED or not remainders.keys() <= set(part.shape.keys)):
            raise DamagedFileError("the list of the files merged into it can't be read")
        return cls(part, remainders, sources, identity(status), status.st_mtime_ns)

    @classmethod
    @contextmanager
    def opened(
        cls, directory: Directory, *, kind: str, shapes: Shapes | None = None
    ) -> Iterator[Self]:
        """Read the directory's of this kind, its list as far as it holds, and keep it open."""
        with directory.open(merged_name(kind)) as fd:
            file = cls.read(fd, kind=kind, shapes=shapes)
            yield file._replace(sources=directory.removable_by(os.fstat(fd), file.sources))

    def replace(self, directory: Directory, name: str) -> None:
        """Put the file in the place of the one of that name, as `Directory.replace` does."""
        image = bytearray(HEADER.size)
        for key, value in zip(self.part.shape.keys, self.part.row, strict=True):
            image += pack_entry(key, value if isinstance(value, Number) else Number(value))
        HEADER.pack_into(image, 0, len(image))
        remainders = {key.decode(): parts for key, parts in self.remainders.items()}
        meta = json.dumps({"absorbed": sorted(self.sources), "remainders": remainders}).encode()
        image += _DEAD + _LENGTH.pack(len(meta)) + meta
        directory.replace(name, bytes(image), prefix=MERGE_PREFIX)


def _checked(name: str) -> str:
    # compaction unlinks the file of that name, which no process may have made meanwhile
    parsed = FileName.parse(name)
    is_never_made_again = parsed.owner is not None or parsed.is_claimed
    if "/" in name or not name.endswith(SUFFIX) or not is_never_made_again:
        raise DamagedFileError(f"{name[:80]!r} can't have been merged")
    return name
