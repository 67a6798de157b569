"""Keys as text and as files: making, reading, naming.

A key is one line of ASCII: `bps1-public-` or `bps1-private-` and the 32 raw bytes of an X25519 key
(RFC 7748) as 64 hexadecimal digits.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from bufpool_workers import memory
from bufpool_workers.errors import KeyFileError
from bufpool_workers.sealing.buffers import Acquire, wipe
from bufpool_workers.sealing.hpke import KeyPair

_PUBLIC = "bps1-public-"
_PRIVATE = b"bps1-private-"
_PUBLIC_TEXT = re.compile(r"bps1-public-([0-9a-fA-F]{64})", re.ASCII)
_CREDENTIAL = "credential:"
# Hexadecimal of 32 bytes, with what people put between; base64 of as many, which may begin like a
# path, and then ends like none.
_MAY_BE_KEY = re.compile(
    r"(?:[0-9a-fA-F]{2}[\s:,-]?){32}"
    r"|^[^\w/]*(?:[A-Za-z0-9]+:)*[A-Za-z0-9+_-][A-Za-z0-9+/_-]{39,}={0,2}\W*$"
    r"|[A-Za-z0-9+/_-]{40,}={1,2}\s*$",
    re.ASCII,
)
_NOT_SHOWN = "(its name may be a key and is not shown)"
_KEY_BYTES = 32
_MAX_FILE_BYTES = 256
_NIBBLES = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}


class PublicKey(NamedTuple):
    """The key that a producer seals to. It holds no secret."""

    key: X25519PublicKey
    """The key itself, as `cryptography` has it."""
    key_id: str
    """Its id in tokens: the first 8 bytes of the SHA-256 of the raw key, in hexadecimal."""


def key_id(public: bytes) -> str:
    """Return the name of a key pair: the first 8 bytes of the SHA-256 of the raw public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def generate_key(path: str | os.PathLike[str]) -> str:
    """Write a new private key to a new file of mode 0600 and return the public key's text.

    Raises FileExistsError rather than overwrite a key.
    """
    private = X25519PrivateKey.generate()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR)
    try:
        os.write(file, _PRIVATE + private.private_bytes_raw().hex().encode() + b"\n")
        os.fsync(file)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            Path(path).unlink()
        raise
    finally:
        os.close(file)
    return _PUBLIC + private.public_key().public_bytes_raw().hex()


def new_pair() -> KeyPair:
    """Make a key pair that lies in memory only."""
    private = X25519PrivateKey.generate()
    return KeyPair(private, private.public_key().public_bytes_raw())


def public_text(pair: KeyPair) -> str:
    """Return the text of a pair's public key."""
    return _PUBLIC + pair.public.hex()


def public_of(source: str | os.PathLike[str], *, acquire: Acquire = memory.secure_buffer) -> str:
    """Return the public key's text of the private key that `source` names as in `read_private`."""
    return public_text(read_private(source, acquire=acquire))


def read_public(source: str | os.PathLike[str]) -> PublicKey:
    """Return the public key that `source` is the text of, or the path of a file with its text.

    A file is read at each call, so that a rotated key is seen without a restart.
    """
    if isinstance(source, str):
        if source.strip().startswith((_PUBLIC, _PRIVATE.decode())):
            return _parse_public(source.strip(), where="the public key")
        if not _may_be_path(source):
            # It could be a key in some other notation, which must not get into an error.
            raise KeyFileError(f"a public key is the text {_PUBLIC}... or the path of a file")
    path = Path(source)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1).decode("ascii", "replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no name of a file"
        raise KeyFileError(f"public key file {_shown(path)}: {reason}") from None
    return _parse_public(text.strip(), where=f"public key file {path}")


def read_private(source: str | os.PathLike[str], *, acquire: Acquire) -> KeyPair:
    """Read a private key through buffers of `acquire`, so that no copy stays in Python's memory.

    `source` is a path, or `credential:NAME` for a file in systemd's $CREDENTIALS_DIRECTORY.
    OpenSSL keeps the key in its own memory, which it wipes when the key is dropped.
    """
    with (
        _opened(source) as (path, file),
        acquire(_MAX_FILE_BYTES) as content,
        memoryview(content) as view,
    ):
        size = os.readv(file, [view])
        found = _parse_private(view, size, acquire=acquire)
    if isinstance(found, str):
        raise KeyFileError(f"private key file {path}: {found}")
    return found


def check_private(source: str | os.PathLike[str]) -> None:
    """Raise KeyFileError if that file can't serve as a private key, without reading the key.

    For the process that forks the workers, which must not hold one: it reads how the file begins.
    """
    with _opened(source) as (path, file):
        begin = bytearray(len(_PRIVATE))
        size = os.preadv(file, [begin], 0)
        is_private = begin[:size] == _PRIVATE
        is_public = _PUBLIC.encode().startswith(bytes(begin[: len(_PUBLIC)]))
        wipe(begin)
        if not is_private:
            what = "a public key" if is_public and size else "something else"
            raise KeyFileError(
                f"private key file {_shown(path)}: expected a private key, found {what}"
            )


def check_public(source: str | os.PathLike[str]) -> None:
    """Raise KeyFileError if `source` is neither a public key nor a path.

    A file that is not there is fine for a process that does not seal.
    """
    with contextlib.suppress(OSError):
        if not isinstance(source, str) or _may_be_path(source):
            os.stat(source)  # noqa: PTH116 - a text that is no path, too
        read_public(source)


def _may_be_path(source: str) -> bool:
    is_key = source.strip().startswith((_PUBLIC, _PRIVATE.decode()))
    return not is_key and not {os.sep, "."}.isdisjoint(source)


def _shown(path: str | os.PathLike[str]) -> str:
    """Write a path for an error, unless it may be a key in some notation that was pasted as one."""
    text = os.fspath(path)
    try:
        is_there = Path(text).exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        return "(not the name of a file, so it is not shown)"
    return text if is_there or not _MAY_BE_KEY.search(text) else _NOT_SHOWN


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str]) -> Iterator[tuple[Path, int]]:
    path = private_path(source)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no name of a file"
        raise KeyFileError(f"private key file {_shown(path)}: {reason}") from None
    try:
        _check_access(os.fstat(file), path=path)
        yield path, file
    finally:
        os.close(file)


def private_path(source: str | os.PathLike[str]) -> Path:
    """Return the path that `source` stands for; KeyFileError if it can stand for none."""
    text = os.fspath(source)
    if text.strip().encode("ascii", "replace").startswith(_PRIVATE):
        raise KeyFileError("a private key itself was given: give the path of its file instead")
    if not text.startswith(_CREDENTIAL):
        return Path(text)
    name = text.removeprefix(_CREDENTIAL)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        raise KeyFileError(
            f"{_shown(text)}: $CREDENTIALS_DIRECTORY is not set; "
            f"use LoadCredential={_shown(name)}:... in the systemd unit"
        )
    if not name or os.sep in name or name == "..":
        raise KeyFileError(f"{_shown(text)}: a credential's name is the plain name of a file")
    return Path(directory) / name


def _check_access(status: os.stat_result, *, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"private key file {path}: not a regular file")
    own = status.st_uid == os.geteuid()
    if not own and status.st_uid != 0:
        raise KeyFileError(f"private key file {path}: owned by another user ({status.st_uid})")
    # Root hands a key to a service by its group: systemd's credentials and Kubernetes' secrets.
    allowed = 0o700 if own else 0o740
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~allowed:
        raise KeyFileError(
            f"private key file {path}: mode {mode:04o} lets others use it; run chmod 600 on it"
        )


def _parse_private(text: memoryview, size: int, *, acquire: Acquire) -> KeyPair | str:
    # What is wrong is returned, and no slice is a local: an error's traceback would keep it, and
    # it the buffer.
    start, end = len(_PRIVATE), size
    while end > start and text[end - 1] in b" \r\n":
        end -= 1
    if text[:start] != _PRIVATE or end - start != 2 * _KEY_BYTES:
        what = "a public key" if text[: len(_PUBLIC)] == _PUBLIC.encode() else "something else"
        return f"expected a private key, found {what}"
    with acquire(_KEY_BYTES) as raw, memoryview(raw) as view:
        # Digit by digit, since bytes.fromhex would leave a copy; small integers are never copied.
        for index in range(_KEY_BYTES):
            at = start + 2 * index
            high, low = _NIBBLES.get(text[at]), _NIBBLES.get(text[at + 1])
            if high is None or low is None:
                return "not hexadecimal"
            view[index] = high << 4 | low
        key = X25519PrivateKey.from_private_bytes(view)
    return KeyPair(key, key.public_key().public_bytes_raw())


@lru_cache(maxsize=64)
def _parse_public(text: str, *, where: str) -> PublicKey:
    if text.startswith(_PRIVATE.decode()):
        raise KeyFileError(f"{where}: this is a private key; producers get the public key only")
    match = _PUBLIC_TEXT.fullmatch(text)
    if match is None:
        raise KeyFileError(f"{where}: expected {_PUBLIC} and 64 hexadecimal digits")
    raw = bytes.fromhex(match[1])
    public = X25519PublicKey.from_public_bytes(raw)
    try:
        X25519PrivateKey.generate().exchange(public)
    except ValueError:
        weak = True
    else:
        weak = False
    if weak:  # RFC 7748, section 6.1: with such a point every secret is zero
        raise KeyFileError(f"{where}: its point is of low order, so it belongs to no private key")
    return PublicKey(public, key_id(raw))
