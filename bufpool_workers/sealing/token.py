"""The text that a sealed argument travels as."""

from __future__ import annotations

import re
import struct
import time
from typing import NamedTuple, Self

from bufpool_workers.errors import DamagedToken, NotSealed
from bufpool_workers.sealing import text as token_text

# of HPKE with X25519, and of its AEADs
ENC_BYTES = 32
TAG_BYTES = 16

_PREFIX = "bps1"
_ANY_VERSION = re.compile(r"bps[0-9]+\.", re.ASCII)
_ANY_RESULT = re.compile(r"bpr[0-9]+\.", re.ASCII)
_HEADER = struct.Struct(">BQ")
_SINGLE_USE = 1
MAX_NAME_BYTES = 0xFFFF

NEVER = 0
MAX_SECRET_BYTES = 1024 * 1024
MAX_EXPIRY_SECONDS = 3653 * 24 * 3600
"""From now: ten years."""

_CLOCK_SKEW_SECONDS = 24 * 3600
_MIN_BODY_BYTES = _HEADER.size + ENC_BYTES + TAG_BYTES
_MAX_BODY_BYTES = _MIN_BODY_BYTES + MAX_SECRET_BYTES


class Header(NamedTuple):
    """The part of a token that everyone can read. HPKE binds it: a change is noticed."""

    key_id: str
    """The id of the key that opens it."""
    expires_at: int
    """Its expiry, in seconds of Unix time; 0 for never."""
    single_use: bool
    """True if only one task can open it."""

    def pack(self) -> bytes:
        """Return flags and expiry as bytes."""
        return _HEADER.pack(_SINGLE_USE if self.single_use else 0, self.expires_at)

    def info(self, *, task: str, argument: str) -> bytes:
        """Return the `info` that HPKE binds, as drawn in `Token`."""
        name = task.encode()
        if len(name) > MAX_NAME_BYTES:
            raise ValueError(f"a task's name has at most {MAX_NAME_BYTES} bytes, got {len(name)}")
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
    """The part that everyone can read."""
    sealed: bytes
    """enc and the ciphertext."""

    @classmethod
    def parse(cls, text: object, *, where: str) -> Self:
        """Take a token apart; NotSealed or DamagedToken name `where`, never the content."""
        if not isinstance(text, str) or not _ANY_VERSION.match(text):
            kind = f"plain {type(text).__name__}"
            if isinstance(text, str) and _ANY_RESULT.match(text):
                kind = "sealed result (bpr1): open it with unseal_result"
            raise NotSealed(f"{where}: expected a token made by seal(), got a {kind}")
        if not text.startswith(_PREFIX + "."):
            raise DamagedToken(f"{where}: the token is of a version that is not known here")
        key_id, body = token_text.split(
            text, least=_MIN_BODY_BYTES, most=_MAX_BODY_BYTES, where=where
        )
        flags, expires_at = _HEADER.unpack_from(body)
        if flags & ~_SINGLE_USE:
            raise DamagedToken(f"{where}: the token has flags that are not known here")
        if flags and not expires_at:
            raise DamagedToken(f"{where}: the token is for single use and never expires")
        if expires_at > time.time() + MAX_EXPIRY_SECONDS + _CLOCK_SKEW_SECONDS:
            raise DamagedToken(f"{where}: the token expires in more than ten years")
        return cls(Header(key_id, expires_at, flags == _SINGLE_USE), body[_HEADER.size :])

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
        return token_text.join(_PREFIX, self.header.key_id, self.header.pack() + self.sealed)
