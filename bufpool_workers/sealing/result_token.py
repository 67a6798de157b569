"""The text that a sealed result travels as."""

from __future__ import annotations

import re
import struct
import time
from typing import Any, NamedTuple, Self

from bufpool_workers.errors import DamagedToken, NotSealed
from bufpool_workers.sealing import text as token_text
from bufpool_workers.sealing.token import ENC_BYTES, MAX_NAME_BYTES, MAX_SECRET_BYTES, TAG_BYTES

_PREFIX = "bpr1"
_ANY_VERSION = re.compile(r"bpr[0-9]+\.", re.ASCII)
_HEADER = struct.Struct(">BQ8sH")
_AUTHENTICATED = 1
_CLOCK_SKEW_SECONDS = 24 * 3600
_LEAST_HEADER_BYTES = _HEADER.size + 2
_MIN_BODY_BYTES = _LEAST_HEADER_BYTES + ENC_BYTES + TAG_BYTES
_MAX_BODY_BYTES = _MIN_BODY_BYTES + 2 * MAX_NAME_BYTES + MAX_SECRET_BYTES


class Returned:
    """The value that a task's body returned.

    It is never a local variable, nor is it in this object's repr: error trackers send the locals
    of every frame that an exception passes.
    """

    __slots__ = ("value",)
    value: Any


class ResultHeader(NamedTuple):
    """The part of a sealed result that everyone can read. HPKE binds it: a change is noticed."""

    key_id: str
    """Of the caller's key that it is sealed to."""
    sender_id: str
    """The id of the worker's key, which proves who sealed it."""
    task: str
    task_id: str
    created_at: int
    """In seconds of Unix time, by the worker's clock."""

    def pack(self) -> bytes:
        """Return all but the key id as bytes, as drawn in `ResultToken`."""
        task, task_id = self.task.encode(), self.task_id.encode()
        for name, of in ((task, "name"), (task_id, "id")):
            if len(name) > MAX_NAME_BYTES:
                raise ValueError(f"a task's {of} has at most {MAX_NAME_BYTES} bytes")
        sender = bytes.fromhex(self.sender_id)
        start = _HEADER.pack(_AUTHENTICATED, self.created_at, sender, len(task))
        return start + task + len(task_id).to_bytes(2, "big") + task_id

    def info(self) -> bytes:
        """Return the `info` that HPKE binds."""
        return _PREFIX.encode() + bytes.fromhex(self.key_id) + self.pack()


class ResultToken(NamedTuple):
    """A sealed result, taken apart.

    The text is `bpr1.KEYID.BODY`, with KEYID and BODY as in `Token`: KEYID is that of the caller's
    key. BODY is the base64url of::

        offset  bytes
        0       1       flags: bit 0, which is always set, for a sender who is authenticated
        1       8       time of creation, seconds of Unix time, big-endian
        9       8       id of the sender's key
        17      2 + t   length of the task's name, big-endian, and the name, UTF-8
        19 + t  2 + i   length of the task's id, big-endian, and the id, UTF-8
        ...     32      enc, the encapsulated key of HPKE
        ...     n + 16  the ciphertext of an n-byte secret, and its tag

    HPKE's mode is auth, with the worker's key as the sender's. Its `info` is "bpr1", KEYID's
    8 bytes, and all of BODY up to enc; its `aad` is empty.
    """

    header: ResultHeader
    """The claims of the token about itself; opening it checks them."""
    sealed: bytes
    """enc and the ciphertext."""

    @classmethod
    def parse(cls, text: object, *, where: str = "sealed result") -> Self:
        """Take a token apart; NotSealed or DamagedToken name `where`, never the content."""
        if not isinstance(text, str) or not _ANY_VERSION.match(text):
            kind = type(text).__name__
            raise NotSealed(f"{where}: expected a token of a sealed result, got a plain {kind}")
        if not text.startswith(_PREFIX + "."):
            raise DamagedToken(f"{where}: the token is of a version that is not known here")
        key_id, body = token_text.split(
            text, least=_MIN_BODY_BYTES, most=_MAX_BODY_BYTES, where=where
        )
        flags, created_at, sender, length = _HEADER.unpack_from(body)
        if flags != _AUTHENTICATED:
            raise DamagedToken(f"{where}: the token has flags that are not known here")
        if created_at > time.time() + _CLOCK_SKEW_SECONDS:
            raise DamagedToken(f"{where}: the token was made in the future")
        task, rest = _take(body[_HEADER.size :], length, where=where)
        task_id, sealed = _take(rest[2:], int.from_bytes(rest[:2], "big"), where=where)
        if not ENC_BYTES + TAG_BYTES <= len(sealed) <= ENC_BYTES + TAG_BYTES + MAX_SECRET_BYTES:
            raise DamagedToken(f"{where}: the token is cut or altered")
        return cls(ResultHeader(key_id, sender.hex(), task, task_id, created_at), sealed)

    def text(self) -> str:
        """Return the token as it travels."""
        return token_text.join(_PREFIX, self.header.key_id, self.header.pack() + self.sealed)


def _take(body: bytes, length: int, *, where: str) -> tuple[str, bytes]:
    """Return the text at the beginning of a body, and what follows it."""
    text = body[:length].decode(errors="replace")
    if length > len(body) or text.encode() != body[:length]:
        raise DamagedToken(f"{where}: the token is cut or altered")
    return text, body[length:]
