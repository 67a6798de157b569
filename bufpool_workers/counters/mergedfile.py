"""The file that holds the numbers of dead processes."""

import json
import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

from bufpool_workers.counters.directory import Directory, Identity, identity
from bufpool_workers.counters.format import (
    HEADER,
    DamagedFileError,
    Number,
    check_key,
    pack_entry,
    read_used,
    unpack_entries,
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
    `identity` says which file was read; no other one has it while that one is kept open.
    """

    numbers: Mapping[bytes, Sequence[Number]]
    sources: Collection[str] = ()
    identity: Identity | None = None

    @classmethod
    def read(cls, fd: int, *, kind: str) -> Self:
        """Read the open file of this kind; raises DamagedFileError when it is something else."""
        data, used = read_used(fd, whole=True)
        numbers = {
            key: [number] for key, number in unpack_entries(data, start=HEADER.size, end=used)
        }
        for key in numbers:
            check_key(key, kind=kind)
        try:
            if data[used : used + len(_DEAD)] != _DEAD:
                raise DamagedFileError("the list of the files merged into it is missing")
            start = used + len(_DEAD) + _LENGTH.size
            (length,) = _LENGTH.unpack_from(data, start - _LENGTH.size)
            meta = json.loads(data[start : start + length])
            sources = frozenset(map(_checked, meta["absorbed"]))
            for key, parts in meta["remainders"].items():
                numbers[key.encode()] += [Number(float(part)) for part in parts]
        except _UNREADABLE as error:
            raise DamagedFileError("the list of the files merged into it can't be read") from error
        return cls(numbers, sources, identity(os.fstat(fd)))

    @classmethod
    @contextmanager
    def opened(cls, directory: Directory, *, kind: str) -> Iterator[Self]:
        """Read the directory's of this kind, its list as far as it holds, and keep it open."""
        with directory.open(merged_name(kind)) as fd:
            file = cls.read(fd, kind=kind)
            yield file._replace(sources=directory.removable_by(os.fstat(fd), file.sources))

    def replace(self, directory: Directory, name: str) -> None:
        """Put it in the place of the one of that name, as `Directory.replace` does."""
        image = bytearray(HEADER.size)
        remainders = {}
        for key, (first, *rest) in self.numbers.items():
            image += pack_entry(key, first)
            if rest:
                remainders[key.decode()] = [number.value for number in rest]
        HEADER.pack_into(image, 0, len(image))
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
