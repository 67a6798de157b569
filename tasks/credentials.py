"""Credentials: passwords checked in wiped memory, and tokens minted from random bytes."""

import hashlib
import hmac
from pathlib import Path

import bufpool_workers as bp
from tasks.app import app

MAX_PASSWORD = 1 * bp.KiB
SCRYPT = {"n": 2**12, "r": 8, "p": 1, "dklen": 32}


@app.task
@bp.pooled_buffer(MAX_PASSWORD, name="password", kind="secure")
def check_password(
    password_file: str, salt_hex: str, expected_hex: str, *, password: bp.Buffer
) -> bool:
    """Return True if the password in a file has the expected scrypt hash.

    The password goes from the file straight into memory that is wiped when the task ends, however
    it ends; it is never an object of Python's, whose copies nobody can wipe.
    """
    with Path(password_file).open("rb", buffering=0) as file:
        n = file.readinto(password)
    with memoryview(password)[:n] as secret:
        return _matches(secret, salt_hex, expected_hex)


@app.task
@bp.sealed("password")
def login(user: str, salt_hex: str, expected_hex: str, *, password: bp.Buffer) -> str | None:
    """Return the user's name if the password has the expected scrypt hash.

    Producers pass `bp.seal(password, task=login, argument="password", expires=60)`: broker, logs
    and results see ciphertext, and only here it is decrypted, straight into memory that is wiped.
    """
    return user if _matches(password, salt_hex, expected_hex) else None


def _matches(password: bp.Buffer | memoryview, salt_hex: str, expected_hex: str) -> bool:
    found = hashlib.scrypt(password, salt=bytes.fromhex(salt_hex), **SCRYPT)
    # in constant time, so that the answer's delay doesn't tell how much of it was right
    return hmac.compare_digest(found, bytes.fromhex(expected_hex))


@app.task
@bp.sealed_result
@bp.pooled_buffer(32, name="token", kind="random")
def mint_token(*, token: bp.Buffer) -> bp.Buffer:
    """Return a new session token of 256 random bits, sealed to the caller's key.

    The buffer is random when it arrives, sealed as it stands, and overwritten when the task ends.
    Only the caller reads it: `with bp.unseal_result(result, task=mint_token) as token`.
    """
    return token
