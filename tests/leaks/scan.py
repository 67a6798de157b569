"""Finds secrets in another process's memory, or in a file such as a core: raw, encoded, in pieces.

A secret counts as found where eight of its bytes in a row lie, as they are or as base64, or eight
of its characters as UTF-16 or UTF-32. For 28 random characters that does not happen by chance.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import numpy as np

_FRAGMENT = 8
_CHUNK = 8 << 20
_LONGEST = 4 * _FRAGMENT
_NOT_MEMORY = ("[vvar]", "[vvar_vclock]", "[vsyscall]")


@dataclass
class Found:
    """What a scan found: for each secret that was there the forms that it was in."""

    forms: dict[str, set[str]] = field(default_factory=dict)
    nbytes: int = 0
    unreadable: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.forms)


class Scanner:
    """Searches for all of `secrets`, ASCII texts, at once."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._needles: dict[bytes, list[tuple[bytes, str, str]]] = {}
        for secret in secrets:
            for form, needle in _needles(secret):
                self._needles.setdefault(needle[:8], []).append((needle, secret, form))
        # which pairs of bytes may stand at 0, 2, 4 and 6 of a needle: sieves, each cheap
        heads = np.frombuffer(b"".join(self._needles), dtype="<u2").reshape(-1, 4)
        self._sieves = np.zeros((4, 1 << 16), dtype=bool)
        for place in range(4):
            self._sieves[place, heads[:, place]] = True

    def search(self, data: bytes, found: Found) -> None:
        """Search one stretch of memory."""
        found.nbytes += len(data)
        if len(data) < _FRAGMENT:
            return
        octets = np.frombuffer(data, dtype=np.uint8)
        pairs = octets[:-1].astype(np.uint16) | octets[1:].astype(np.uint16) << 8
        places = np.flatnonzero(self._sieves[0][pairs[: len(data) - _FRAGMENT + 1]])
        for at in (2, 4, 6):
            places = places[self._sieves[at // 2][pairs[places + at]]]
        for place in places.tolist():
            for needle, secret, form in self._needles.get(data[place : place + 8], ()):
                if data.startswith(needle, place):
                    found.forms.setdefault(secret, set()).add(form)

    def process(self, pid: int) -> Found:
        """Search every readable mapping of a process; needs the right to trace it."""
        found = Found()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for low, high, name in _readable(pid):
                try:
                    for chunk in _chunks(memory, low, high):
                        self.search(chunk, found)
                except OSError as error:  # memfd_secret: EIO
                    found.unreadable.append(f"{name}: {error.strerror}")
        return found

    def file(self, path: Path) -> Found:
        """Search a file."""
        found = Found()
        with path.open("rb", buffering=0) as file:
            for chunk in _chunks(file, 0, path.stat().st_size):
                self.search(chunk, found)
        return found


def _needles(secret: str) -> Iterator[tuple[str, bytes]]:
    raw = secret.encode("ascii")
    for window in _windows(raw):
        yield "raw", window
    for shift in range(3):  # where in a triple of bytes the secret may begin
        text = base64.b64encode(bytes(shift) + raw)
        # without the characters that neighbours have a part in
        sure = text[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        for window in _windows(sure):
            yield "base64", window
            yield "base64", window.translate(bytes.maketrans(b"+/", b"-_"))
    for window in _windows(raw):
        yield "utf-16", window.decode().encode("utf-16-le")
        yield "utf-32", window.decode().encode("utf-32-le")


def _windows(text: bytes) -> Iterator[bytes]:
    return (text[at : at + _FRAGMENT] for at in range(len(text) - _FRAGMENT + 1))


def _readable(pid: int) -> Iterator[tuple[int, int, str]]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights, _, _, _, *name = line.split(None, 5)
        if rights.startswith("r") and "".join(name) not in _NOT_MEMORY:
            low, high = (int(number, 16) for number in span.split("-"))
            yield low, high, "".join(name) or "anonymous"


def _chunks(file: FileIO, low: int, high: int) -> Iterator[bytes]:
    """Read a span in pieces that overlap by less than the longest needle."""
    kept = b""
    file.seek(low)
    while low < high:
        piece = file.read(min(_CHUNK, high - low))
        if not piece:
            return
        low += len(piece)
        yield kept + piece
        kept = piece[-(_LONGEST - 1) :]
