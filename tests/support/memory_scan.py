"""Where a secret is: in texts, in a Redis database, and in the memory of another process."""

import base64
from pathlib import Path
from typing import Any

_FRAGMENT_BYTES = 8
_PART_BYTES = 4
_CHUNK_BYTES = 8 << 20
_KERNELS_OWN = {"[vvar]", "[vvar_vclock]", "[vsyscall]"}


def copies(data: bytes | bytearray, secret: bytes) -> int:
    """Count copies of a secret: raw, as base64 at any alignment, and as UTF-16 and UTF-32."""
    return sum(data.count(needle) for needle in _needles(secret))


def copies_in_redis(client: Any, secret: bytes) -> int:
    """Count copies in all keys and values of a database."""
    readers = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    return sum(
        copies(key, secret) + copies(b"\n".join(_flat(readers[client.type(key)](key))), secret)
        for key in client.scan_iter()
    )


def copies_in_memory(pid: int, secret: bytes) -> int:
    """Count copies in all memory that a process may have written and others can read.

    Damaged copies count: those of which 8 bytes in a row are left, as in a freed block whose start
    was overwritten. Needs the right to trace the process: its user's, or root's.
    """
    return sum(copies(data, secret) + _damaged(data, secret) for data in _readable_memory(pid))


def _needles(secret: bytes) -> list[bytes]:
    text = secret.decode("latin-1")
    found = [secret, text.encode("utf-16-le"), text.encode("utf-32-le")]
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + secret)
        # only characters that are wholly decided by the secret, not by its neighbours
        found.append(encoded[-(-shift * 8 // 6) : (shift + len(secret)) * 8 // 6])
    return found


def _damaged(data: bytearray, secret: bytes) -> int:
    """Count the places where a copy would begin of which enough, but not all, is there."""
    begins = set()
    # of any 8 bytes in a row, 4 begin at one of these
    for offset in range(0, len(secret) - _PART_BYTES + 1, _FRAGMENT_BYTES - _PART_BYTES + 1):
        part = secret[offset : offset + _PART_BYTES]
        at = data.find(part)
        while at >= 0:
            if _FRAGMENT_BYTES <= _alike(data, at, secret, offset) < len(secret):
                begins.add(at - offset)
            at = data.find(part, at + 1)
    return len(begins)


def _alike(data: bytearray, at: int, secret: bytes, offset: int) -> int:
    """Return how many bytes in a row, about these two places, are the same."""
    low = high = 0
    while low < min(at, offset) and data[at - low - 1] == secret[offset - low - 1]:
        low += 1
    while (
        high < min(len(data) - at, len(secret) - offset)
        and data[at + high] == secret[offset + high]
    ):
        high += 1
    return low + high


def _readable_memory(pid: int) -> list[bytearray]:
    pieces = []
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            span, permissions, _, _, inode, *name = line.split(maxsplit=5)
            unchanged_file = permissions[1] != "w" and inode != "0"
            kernels_own = name and name[0].strip() in _KERNELS_OWN
            if permissions[0] != "r" or unchanged_file or kernels_own:
                continue
            low, high = (int(address, 16) for address in span.split("-"))
            piece = bytearray()
            memory.seek(low)
            try:
                while len(piece) < high - low and (
                    part := memory.read(min(_CHUNK_BYTES, high - low - len(piece)))
                ):
                    piece += part
            except OSError:
                pass  # secret memory, or a mapping that went: nobody can read it from outside
            pieces.append(piece)
    return pieces


def _flat(value: Any) -> list[bytes]:
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    return list(value or ())
