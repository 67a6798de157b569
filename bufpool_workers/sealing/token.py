"""The text that a sealed argument travels as."""

from __future__ import annotations

import binascii
import re
import struct
import time
from base64 import urlsafe_b64encode
from typing import NamedTuple, Self

from bufpool_workers.errors import DamagedToken, NotSealed

# of HPKE with X25519, and of its AEADs
ENC_BYTES = 32
TAG_BYTES = 16

_PREFIX = "bps1."
_TEXT = re.compile(r"bps1\.([0-9a-f]{16})\.([A-Za-z0-9_-]+)", re.ASCII)
_ANY_VERSION = re.compile(r"bps[0-9]+\.", re.ASCII)
_FROM_URLSAFE = bytes.maketrans(b"-_", b"+/")
_LAST_DIGITS = {1: "AEIMQUYcgkosw048", 2: "AQgw"}
_HEADER = struct.Struct(">BQ")
_SINGLE_USE = 1
_MAX_NAME_BYTES = 0xFFFF

NEVER = 0
MAX_SECRET_BYTES = 1024 * 1024
MAX_EXPIRY_SECONDS = 3653 * 24 * 3600
"""From now: ten years."""

_CLOCK_SKEW_SECONDS = 24 * 3600
_MAX_BODY_BYTES = _HEADER.size + ENC_BYTES + MAX_SECRET_BYTES + TAG_BYTES
_MAX_CHARACTERS = len(_PREFIX) + 16 + len(".") + -(-_MAX_BODY_BYTES * 4 // 3)


class Header(NamedTuple):
    """The part of a token that everyone can read. HPKE binds it: a change is noticed."""

    key_id: str
    expires_at: int
    single_use: bool

    def pack(self) -> bytes:
        """Return flags and expiry as bytes."""
        return _HEADER.pack(_SINGLE_USE if self.single_use else 0, self.expires_at)

    def info(self, *, task: str, argument: str) -> bytes:
        """Return the `info` that HPKE binds, as drawn in `Token`."""
        name = task.encode()
        if len(name) > _MAX_NAME_BYTES:
            raise ValueError(f"a task's name has at most {_MAX_NAME_BYTES} bytes, got {len(name)}")
        length = len(name).to_bytes(2, "big")
        key_id = bytes.fromhex(self.key_id)
        return b"bps1" + key_id + self.pack() + length + name + argument.encode()


class Token(NamedTuple):
    """A sealed argument, taken apart.

    The text is `bps1.KEYID.BODY`, in ASCII. KEYID is 16 lower-case hexadecimal digits, the first
    8 bytes of the SHA-256 of the raw public key. BODY is base64url without padding (RFC 4648,
    section 5) of::

        offset  bytes
        0       1       flags: bit 0 for single use, all others zero
        1       8       expiry, seconds of Unix time, big-endian; zero for never
        9       32      enc, the encapsulated key of HPKE
        41      n + 16  the ciphertext of an n-byte secret, and its tag

    HPKE's `info` binds everything that is not encrypted; its `aad` is empty. `info` is::

        "bps1"  KEYID's 8 bytes  flags and expiry as above
        length of the task's name, 2 bytes big-endian  task's name, UTF-8
        argument's name, UTF-8

    So the expiry, the flags and the length of the secret can be read by all, and changed by none.
    A secret has at most `MAX_SECRET_BYTES`, an expiry lies at most `MAX_EXPIRY_SECONDS` ahead, and
    a token for single use has one: its use is remembered until then.
    """

    header: Header
    sealed: bytes

    @classmethod
    def parse(cls, text: object, *, where: str) -> Self:
        """Take a token apart; NotSealed or DamagedToken name `where`, never the content."""
        if not isinstance(text, str) or not _ANY_VERSION.match(text):
            kind = type(text).__name__
            raise NotSealed(f"{where}: expected a token made by seal(), got a plain {kind}")
        if not text.startswith(_PREFIX):
            raise DamagedToken(f"{where}: the token is of a version that is not known here")
        if len(text) > _MAX_CHARACTERS:
            raise DamagedToken(f"{where}: the token is larger than that of any secret")
        match = _TEXT.fullmatch(text)
        if match is None:
            raise DamagedToken(f"{where}: the token is cut, or has characters that no token has")
        body = _decode(match[2])
        if body is None or len(body) < _HEADER.size + ENC_BYTES + TAG_BYTES:
            raise DamagedToken(f"{where}: the token is cut or altered")
        flags, expires_at = _HEADER.unpack_from(body)
        if flags & ~_SINGLE_USE:
            raise DamagedToken(f"{where}: the token has flags that are not known here")
        if flags and not expires_at:
            raise DamagedToken(f"{where}: the token is for single use and never expires")
        if expires_at > time.time() + MAX_EXPIRY_SECONDS + _CLOCK_SKEW_SECONDS:
            raise DamagedToken(f"{where}: the token expires in more than ten years")
        return cls(Header(match[1], expires_at, flags == _SINGLE_USE), body[_HEADER.size :])

    @property
    def secret_bytes(self) -> int:
        """The length of the secret."""
        return len(self.sealed) - ENC_BYTES - TAG_BYTES

    @property
    def use_id(self) -> str:
        """An id of this token, which any two tokens differ in.

        HPKE's encapsulated key is fresh for each message and bound into its key, so that no other
        random number is needed.
        """
        import hashlib  # noqa: PLC0415 - loaded with the keys

        return hashlib.sha256(self.sealed[:ENC_BYTES]).hexdigest()[:32]

    def text(self) -> str:
        """Return the token as it travels."""
        return f"{_PREFIX}{self.header.key_id}.{_encode(self.header.pack() + self.sealed)}"


def _encode(body: bytes) -> str:
    return urlsafe_b64encode(body).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes | None:
    padding = b"=" * (-len(text) % 4)
    # Bits behind the last byte would be ignored: allow zeroes only, so that one body has one text.
    if len(padding) in _LAST_DIGITS and text[-1] not in _LAST_DIGITS[len(padding)]:
        return None
    try:
        return binascii.a2b_base64(text.encode("ascii").translate(_FROM_URLSAFE) + padding)
    except binascii.Error:  # one digit left over
        return None
