"""Work as tasks do it: the bytes-returning style, bytearrays, bytearrays after mallopt, buffers."""

import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import zstandard

import bufpool_workers as bp
from bufpool_workers import KiB, MiB
from bufpool_workers.settings import format_size
from bufpool_workers.worker import malloc

from .report import Table
from .timing import Case, measure

ROUNDS = 11
SIZES = (256 * KiB, MiB, 8 * MiB, 32 * MiB)
FILE_BYTES = 8 * MiB
CHUNK = 64 * KiB
MESSAGE = 256 * KiB

Names = Mapping[str, Any]


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


def _credential(nbytes: int, style: str) -> Names:
    salt = bytes(16)

    def into(password: Any) -> None:
        memoryview(password)[:] = bytes(nbytes)
        hashlib.scrypt(password, salt=salt, n=1024, r=8, p=1)

    def pooled() -> None:
        with bp.secure_buffer(nbytes) as password:
            into(password)

    def returning() -> None:
        hashlib.scrypt(bytes(nbytes), salt=salt, n=1024, r=8, p=1)

    return {"work": _styled(style, returning, lambda: into(fresh(nbytes)), pooled)}


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


def _styled(style: str, *works: Callable[[], None]) -> Callable[[], None]:
    """The work in one of STYLES, with this process prepared for it."""
    returning, plain, pooled = works
    if style == "mallopt":
        malloc.tune()
    if style == "buffers":
        sizes = [CHUNK, 256 * KiB, MiB, 8 * MiB, 32 * MiB]
        settings = {
            "bufpool_size_classes": [2 * KiB, *sizes],
            "bufpool_warm": {
                "regular": dict.fromkeys(sizes, 2),
                "secure": {2 * KiB: 2},
                "random": {},
            },
        }
        bp.memory.configure(lambda: bp.Settings.read(settings))
        bp.current_pools().warm()
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
        table.add(ours, rival, what=f"{what}, {format_size(nbytes)}")


def pipeline() -> Table:
    table = Table("numpy: read, scale to float32; two arrays alive at once")
    for nbytes in SIZES:
        compare(table, "pipeline", _numpy, nbytes)
    return table


def others() -> Table:
    table = Table("other work, where one buffer lives at a time")
    compare(table, "file digest, 64KiB at a time", _digest, FILE_BYTES)
    compare(table, "file copy, 64KiB at a time", _copy, FILE_BYTES)
    compare(table, "zstandard, decompress into", _decompress, MiB)
    compare(table, "zstandard, decompress into", _decompress, 8 * MiB)
    compare(table, "socket receive into", _receive, MESSAGE)
    compare(table, "scrypt of a password", _credential, 32)
    return table


def tables() -> list[Table]:
    return [pipeline(), others()]
