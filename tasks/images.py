"""The work that the modules for other job systems share, on buffers from a pool."""

import hashlib
import hmac
from pathlib import Path

import numpy as np

import bufpool_workers as bp

PIXELS = 1 * bp.MiB
SCALED = 4 * PIXELS
SCRYPT = {"n": 2**12, "r": 8, "p": 1, "dklen": 32}


def scale_into(source: str, factor: float, raw: bp.Buffer, scaled: bp.Buffer) -> float:
    """Scale the bytes of a file as float32; return their mean."""
    with Path(source).open("rb", buffering=0) as file:
        n = file.readinto(raw)
    result = np.frombuffer(scaled, np.float32, n)
    np.multiply(np.frombuffer(raw, np.uint8, n), np.float32(factor), out=result)
    return float(result.mean(dtype=np.float64))


def is_password(password: bp.Buffer, salt_hex: str, expected_hex: str) -> bool:
    """Return whether a password has the expected scrypt hash, in constant time."""
    found = hashlib.scrypt(password, salt=bytes.fromhex(salt_hex), **SCRYPT)
    return hmac.compare_digest(found, bytes.fromhex(expected_hex))
