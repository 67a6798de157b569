"""The text of tokens: `PREFIX.KEYID.BODY`, all in ASCII.

KEYID is 16 lower-case hexadecimal digits, the first 8 bytes of the SHA-256 of a raw public key.
BODY is base64url without padding (RFC 4648, section 5).
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64encode

from bufpool_workers.errors import DamagedToken

_TEXT = re.compile(r"[a-z0-9]+\.([0-9a-f]{16})\.([A-Za-z0-9_-]+)", re.ASCII)
_FROM_URLSAFE = bytes.maketrans(b"-_", b"+/")
_LAST_DIGITS = {1: "AEIMQUYcgkosw048", 2: "AQgw"}


def join(prefix: str, key_id: str, body: bytes) -> str:
    """Return the text of a token."""
    return f"{prefix}.{key_id}.{urlsafe_b64encode(body).rstrip(b'=').decode('ascii')}"


def split(text: str, *, least: int, most: int, where: str) -> tuple[str, bytes]:
    """Return key id and body of a token, whose body has from `least` to `most` bytes.

    Raises DamagedToken, before it takes memory for a body that is too large.
    """
    prefix = text.partition(".")[0]
    if len(text) > len(prefix) + len(".0123456789abcdef.") + -(-most * 4 // 3):
        raise DamagedToken(f"{where}: the token is larger than that of any secret")
    match = _TEXT.fullmatch(text)
    if match is None:
        raise DamagedToken(f"{where}: the token is cut, or has characters that no token has")
    body = _decode(match[2])
    if body is None or len(body) < least:
        raise DamagedToken(f"{where}: the token is cut or altered")
    return match[1], body


def _decode(text: str) -> bytes | None:
    padding = b"=" * (-len(text) % 4)
    # Bits behind the last byte would be ignored: allow zeroes only, so that one body has one text.
    if len(padding) in _LAST_DIGITS and text[-1] not in _LAST_DIGITS[len(padding)]:
        return None
    try:
        return binascii.a2b_base64(text.encode("ascii").translate(_FROM_URLSAFE) + padding)
    except binascii.Error:  # one digit left over
        return None
