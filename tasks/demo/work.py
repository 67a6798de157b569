"""The demo's files and tasks, and what each task's result has to be, computed another way."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import eq, is_
from pathlib import Path
from typing import Any

import numpy as np
from celery import Signature
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

import bufpool_workers as bp
from bufpool_workers import GiB, MiB
from tasks import arrays, credentials, files
from tasks.demo import DemoError

EACH = 200
FILES = 50
FILE_BYTES = 4 * MiB
RASTERS = 100
NEEDED_BYTES = 2 * GiB
FACTOR = 1 / 255
BUFFERS = {
    "digest of a file": 1,
    "copy of a file": 1,
    "array pipeline": 2,
    "password check": 1,
    "sealed login": 1,
    "token": 1,
}
"""The kinds of work, and how many buffers a task of each takes."""


@dataclass(frozen=True)
class Job:
    """A task to send, and the check of its result."""

    task: Signature
    is_right: Callable[[Any], bool]


def kinds(folder: Path) -> dict[str, Callable[[], Iterator[Job]]]:
    """Make the files, and give each kind of work by name."""
    if (room := shutil.disk_usage(folder).free) < NEEDED_BYTES:
        raise DemoError(
            f"{folder}: {room // MiB} MiB free, {NEEDED_BYTES // MiB} MiB are needed; name "
            "another place in TMPDIR"
        )
    big = [_random_file(folder / f"file{i}.bin", FILE_BYTES) for i in range(FILES)]
    rasters = [_random_file(folder / f"raster{i}.bin", arrays.PIXELS) for i in range(RASTERS)]
    makers: list[Callable[[], Iterator[Job]]] = [
        lambda: _digests(big),
        lambda: _copies(big, folder),
        lambda: _scalings(rasters, folder),
        lambda: _passwords(folder),
        _logins,
        _tokens,
    ]
    return dict(zip(BUFFERS, makers, strict=True))


def _random_file(path: Path, nbytes: int) -> tuple[Path, str]:
    content = os.urandom(nbytes)
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def _digests(big: list[tuple[Path, str]]) -> Iterator[Job]:
    for i in range(EACH):
        path, expected = big[i % FILES]
        yield Job(files.digest.s(str(path)), partial(eq, expected))


def _copies(big: list[tuple[Path, str]], folder: Path) -> Iterator[Job]:
    for i in range(EACH):
        path, expected = big[i % FILES]
        target = folder / f"copy{i}.bin"

        def is_right(size: int, target: Path = target, expected: str = expected) -> bool:
            content = target.read_bytes()
            target.unlink()
            return size == len(content) and hashlib.sha256(content).hexdigest() == expected

        yield Job(files.copy.s(str(path), str(target)), is_right)


def _scalings(rasters: list[tuple[Path, str]], folder: Path) -> Iterator[Job]:
    for i in range(EACH):
        source, _ = rasters[i % RASTERS]
        target = folder / f"scaled{i}.f32"

        def is_right(mean: float, source: Path = source, target: Path = target) -> bool:
            found = np.fromfile(target, dtype=np.float32)
            target.unlink()
            # a table of all 256 values, in double precision, instead of a multiplication
            table = np.arange(256) * FACTOR
            expected = table[np.frombuffer(source.read_bytes(), dtype=np.uint8)]
            return bool(
                np.allclose(found, expected, rtol=1e-6, atol=0)
                and np.isclose(mean, expected.mean(), rtol=1e-6)
            )

        yield Job(arrays.scale.s(str(source), str(target), FACTOR), is_right)


def _passwords(folder: Path) -> Iterator[Job]:
    for i, (password, salt, expected, right) in enumerate(_credentials()):
        path = folder / f"password{i}"
        path.touch(mode=0o600)
        path.write_bytes(password)
        task = credentials.check_password.s(str(path), salt.hex(), expected.hex())
        yield Job(task, partial(is_, right))


def _logins() -> Iterator[Job]:
    for i, (password, salt, expected, right) in enumerate(_credentials()):
        sealed = bp.seal(password, task=credentials.login, argument="password", expires=600)
        task = credentials.login.s(f"user{i}", salt.hex(), expected.hex(), password=sealed)
        yield Job(task, partial(eq, f"user{i}" if right else None))


def _credentials() -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Return passwords, salts, and hashes that belong to two of three of them."""
    scrypt = credentials.SCRYPT
    for i in range(EACH):
        password, salt = secrets.token_urlsafe(18).encode(), os.urandom(16)
        right = i % 3 != 0
        kdf = Scrypt(salt, scrypt["dklen"], scrypt["n"], scrypt["r"], scrypt["p"])
        yield password, salt, kdf.derive(password if right else password + b"!"), right


def _tokens() -> Iterator[Job]:
    seen: set[bytes] = set()

    def is_right(sealed: str) -> bool:
        task_id = bp.sealing.ResultToken.parse(sealed).header.task_id
        with bp.unseal_result(sealed, task=credentials.mint_token, task_id=task_id) as token:
            raw = bytes(token)
        is_new = raw not in seen
        seen.add(raw)
        return is_new and len(raw) == 32 and len(set(raw)) > 1  # noqa: PLR2004 - bytes of a token

    for _ in range(EACH):
        yield Job(credentials.mint_token.s(), is_right)
