"""Where a secret is: in texts, in a Redis database, and in the memory of another process."""

import base64
import re
from pathlib import Path
from typing import Any

_FRAGMENT_BYTES = 8
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
    fragments = {
        secret[start : start + _FRAGMENT_BYTES]
        for start in range(len(secret) - _FRAGMENT_BYTES + 1)
    }
    anywhere = re.compile(b"|".join(map(re.escape, sorted(fragments))))
    return sum(
        copies(data, secret) + _damaged(data, secret, anywhere) for data in _readable_memory(pid)
    )


def _needles(secret: bytes) -> list[bytes]:
    text = secret.decode("latin-1")
    found = [secret, text.encode("utf-16-le"), text.encode("utf-32-le")]
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + secret)
        # only characters that are wholly decided by the secret, not by its neighbours
        found.append(encoded[-(-shift * 8 // 6) : (shift + len(secret)) * 8 // 6])
    return found


def _damaged(data: bytearray, secret: bytes, fragment: re.Pattern[bytes]) -> int:
    count, last = 0, -len(secret)
    for match in fragment.finditer(data):
        if match.start() >= last + len(secret):
            last = match.start()
            count += data[last : last + len(secret)] != secret
    return count


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
