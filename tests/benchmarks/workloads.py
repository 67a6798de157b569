"""Work as tasks do it: the bytes-returning style, bytearrays, bytearrays after mallopt, buffers."""

import hashlib
import hmac
import os
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard

import bufpool_workers as bp
from bufpool_workers import KiB, MiB
from bufpool_workers.settings import format_size
from tests.benchmarks.prepared import Names, pools, tuned_malloc
from tests.benchmarks.report import Table
from tests.benchmarks.timing import Case, measure

ROUNDS = 21
SIZES = (256 * KiB, MiB, 8 * MiB, 32 * MiB)
FILE_BYTES = 8 * MiB
CHUNK = 64 * KiB
MESSAGE = 256 * KiB
WARM = {"regular": (CHUNK, 256 * KiB, MiB, 2 * MiB, 8 * MiB, 32 * MiB), "secure": (2 * KiB,)}


def fresh(nbytes: int) -> bytearray:
    return bytearray(nbytes)


def numpy_bytes(file: Any, nbytes: int) -> None:
    """Read, to float32, scale, write, as it comes to mind: each step makes something new."""
    raw = np.frombuffer(os.pread(file, nbytes // 4, 0), np.uint8)
    (raw.astype(np.float32) * np.float32(1 / 255)).tobytes()


def numpy_into(file: Any, raw: Any, scaled: Any) -> None:
    """The same into two given buffers, one of samples and one of floats."""
    n = os.preadv(file, [raw], 0)
    samples = np.frombuffer(raw, np.uint8, count=n)
    floats = np.frombuffer(scaled, np.float32, count=n)
    np.multiply(samples, np.float32(1 / 255), out=floats, casting="unsafe")


def _numpy(nbytes: int, style: str) -> Names:
    file = _file(nbytes // 4)

    def plain() -> None:
        numpy_into(file, fresh(nbytes // 4), fresh(nbytes))

    def pooled() -> None:
        with bp.buffer(nbytes // 4) as raw, bp.buffer(nbytes) as scaled:
            numpy_into(file, raw, scaled)

    return {"work": _styled(style, lambda: numpy_bytes(file, nbytes), plain, pooled)}


def _digest(nbytes: int, style: str) -> Names:
    file = _file(nbytes)

    def into(chunk: Any) -> None:
        digest = hashlib.blake2b()
        with memoryview(chunk) as view:
            for at in range(0, nbytes, CHUNK):
                n = os.preadv(file, [view], at)
                digest.update(view[:n])

    def returning() -> None:
        digest = hashlib.blake2b()
        for at in range(0, nbytes, CHUNK):
            digest.update(os.pread(file, CHUNK, at))

    return {"work": _styled(style, returning, lambda: into(fresh(CHUNK)), _lending(into, CHUNK))}


def _copy(nbytes: int, style: str) -> Names:
    source, target = _file(nbytes), _file(0)

    def into(chunk: Any) -> None:
        for at in range(0, nbytes, CHUNK):
            os.pwritev(target, [memoryview(chunk)[: os.preadv(source, [chunk], at)]], at)

    def returning() -> None:
        for at in range(0, nbytes, CHUNK):
            os.pwrite(target, os.pread(source, CHUNK, at), at)

    return {"work": _styled(style, returning, lambda: into(fresh(CHUNK)), _lending(into, CHUNK))}


def _decompress(nbytes: int, style: str) -> Names:
    pattern = np.random.default_rng(7).integers(0, 256, 4096, np.uint8).tobytes()
    packed = zstandard.ZstdCompressor().compress(pattern * (nbytes // 4096))
    decompressor = zstandard.ZstdDecompressor()

    def into(whole: Any) -> None:
        with decompressor.stream_reader(packed) as reader:
            reader.readinto(whole)

    def returning() -> None:
        decompressor.decompress(packed)

    return {"work": _styled(style, returning, lambda: into(fresh(nbytes)), _lending(into, nbytes))}


def _receive(nbytes: int, style: str) -> Names:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MESSAGE)
    part = bytes(CHUNK)

    def into(whole: Any) -> None:
        with memoryview(whole) as view:
            for at in range(0, nbytes, CHUNK):
                theirs.sendall(part)
                ours.recv_into(view[at : at + CHUNK], CHUNK, socket.MSG_WAITALL)

    def returning() -> None:
        parts = []
        for _ in range(0, nbytes, CHUNK):
            theirs.sendall(part)
            parts.append(ours.recv(CHUNK, socket.MSG_WAITALL))
        b"".join(parts)

    return {"work": _styled(style, returning, lambda: into(fresh(nbytes)), _lending(into, nbytes))}


def _check(digest: Callable[[Any], bytes], nbytes: int, style: str) -> Names:
    """Read a secret from a file, as a task does from a credential's, and compare its digest."""
    file = _file(nbytes)
    expected = digest(os.pread(file, nbytes, 0))

    def into(secret: Any) -> None:
        os.preadv(file, [secret], 0)
        hmac.compare_digest(digest(secret), expected)

    def pooled() -> None:
        with bp.secure_buffer(nbytes) as secret:
            into(secret)

    def returning() -> None:
        hmac.compare_digest(digest(os.pread(file, nbytes, 0)), expected)

    return {"work": _styled(style, returning, lambda: into(fresh(nbytes)), pooled, kind="secure")}


def _password(nbytes: int, style: str) -> Names:
    salt = bytes(16)
    return _check(lambda secret: hashlib.scrypt(secret, salt=salt, n=1024, r=8, p=1), nbytes, style)


def _token(nbytes: int, style: str) -> Names:
    key = bytes(32)
    return _check(lambda secret: hmac.digest(key, secret, "sha256"), nbytes, style)


def _file(nbytes: int) -> int:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the process of the case ends soon
    file.write(os.urandom(min(nbytes, MiB)) * -(-nbytes // MiB))
    file.truncate(nbytes)
    file.flush()
    return os.dup(file.fileno())


def _lending(into: Callable[[Any], None], nbytes: int) -> Callable[[], None]:
    def pooled() -> None:
        with bp.buffer(nbytes) as buffer:
            into(buffer)

    return pooled


def _styled(style: str, *works: Callable[[], None], kind: str = "regular") -> Callable[[], None]:
    """The work in one of STYLES, with this process prepared for it."""
    returning, plain, pooled = works
    if style == "mallopt":
        tuned_malloc()
    if style == "buffers":
        pools(kind, WARM[kind])
    return {"bytes": returning, "bytearrays": plain, "mallopt": plain, "buffers": pooled}[style]


STYLES = ("buffers", "bytes", "bytearrays", "mallopt")


def compare(table: Table, what: str, make: Callable[[int, str], Names], nbytes: int) -> None:
    """Add three rows: buffers against each other style of the same work."""
    cases = [
        Case(style, "work()", lambda style=style: make(nbytes, style), time.process_time)
        for style in STYLES
    ]
    ours, *rivals = measure(cases, rounds=ROUNDS, seconds=0.02)
    for rival in rivals:
        table.add(ours, rival, what=f"{what}, {format_size(nbytes)}", at=nbytes)


def pipeline() -> Table:
    table = Table("pipeline", "numpy: read, scale to float32; two arrays alive at once")
    for nbytes in SIZES:
        compare(table, "pipeline", _numpy, nbytes)
    return table


def others() -> Table:
    table = Table("work", "other work, where one buffer lives at a time")
    compare(table, "file digest, 64KiB at a time", _digest, FILE_BYTES)
    compare(table, "file copy, 64KiB at a time", _copy, FILE_BYTES)
    compare(table, "zstandard, decompress into", _decompress, MiB)
    compare(table, "zstandard, decompress into", _decompress, 8 * MiB)
    compare(table, "socket receive into", _receive, MESSAGE)
    compare(table, "credential check, scrypt", _password, 32)
    compare(table, "token check, HMAC", _token, 32)
    return table


def tables() -> list[Table]:
    return [pipeline(), others()]
