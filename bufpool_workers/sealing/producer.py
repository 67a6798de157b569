"""The side that seals, which holds a public key only."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bufpool_workers.errors import KeyFileError
from bufpool_workers.sealing.buffers import wipe as _wipe
from bufpool_workers.sealing.host_objects import task_name
from bufpool_workers.sealing.hpke import AES_256_GCM
from bufpool_workers.sealing.keys import PublicKey, read_public
from bufpool_workers.sealing.parameters import parameters_of
from bufpool_workers.sealing.token import (
    MAX_EXPIRY_SECONDS,
    MAX_SECRET_BYTES,
    NEVER,
    Header,
    Token,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

KeySource = str | os.PathLike[str] | PublicKey
"""A public key's text, the path of a file that holds it, or the key."""


def seal(  # noqa: PLR0913 - a call reads as one sentence, all but the secret by keyword
    secret: Buffer | str,
    *,
    task: Any,
    argument: str,
    expires: float | timedelta | None = None,
    public_key: KeySource | None = None,
    single_use: bool = False,
    wipe: bool = False,
    default_key: Callable[[], KeySource | None] = lambda: None,
) -> str:
    """Return a token, as `bufpool_workers.seal` does.

    `default_key` is asked for the key where `public_key` is None; KeyFileError if it has none.
    """
    with _bytes_of(secret, writable=wipe) as view:
        try:
            key = _public_key(default_key() if public_key is None else public_key)
            header = Header(key.key_id, _expiry(expires, single_use=single_use), bool(single_use))
            info = header.info(task=task_name(task), argument=_argument_name(argument, task=task))
            return Token(header, AES_256_GCM.seal(view, recipient=key.key, info=info)).text()
        finally:
            if wipe:
                _wipe(view)


def _bytes_of(secret: Buffer | str, *, writable: bool) -> memoryview:
    kind = type(secret).__name__
    data = secret
    if isinstance(data, str):
        # a character takes a byte at least
        _check_size(len(data))
        data = data.encode("utf-8", "surrogatepass")
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"secret must be bytes-like or str, got {kind}") from None
    _check_size(view.nbytes)
    if not view.c_contiguous:
        raise TypeError("secret must be contiguous in memory")
    if writable and view.readonly:
        raise TypeError(f"wipe=True needs a writable buffer, {kind} is read-only")
    return view.cast("B") if view.nbytes else memoryview(b"")


def _check_size(nbytes: int) -> None:
    if nbytes > MAX_SECRET_BYTES:
        raise ValueError(f"secret must have at most {MAX_SECRET_BYTES} bytes, got {nbytes}")


def _argument_name(argument: object, *, task: Any) -> str:
    if not isinstance(argument, str) or not argument.isidentifier():
        raise ValueError("argument must be the name of one of the task's parameters")
    if hasattr(task, "run"):
        names = [parameter.name for parameter in parameters_of(task)]
        if argument in names:
            return argument
        sealed = f"only {', '.join(names)}" if names else "nor any other"
        raise ValueError(f"{task.name} has no sealed argument {argument!r}, {sealed}")
    return argument


def _expiry(expires: float | timedelta | None, *, single_use: bool) -> int:
    if expires is None:
        if single_use:
            raise ValueError("a single-use token needs expires: its use is remembered until then")
        return NEVER
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        kind = type(expires).__name__
        raise TypeError(f"expires must be seconds from now or a timedelta, got {kind}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"expires must be more than 0 seconds from now, got {seconds}")
    if seconds > MAX_EXPIRY_SECONDS:
        raise ValueError("expires must be at most ten years from now")
    return math.ceil(time.time() + seconds)


def _public_key(source: KeySource | None) -> PublicKey:
    if isinstance(source, PublicKey):
        return source
    if source is None:
        raise KeyFileError("no public key: set bufpool_public_key, or give seal() a public_key")
    return read_public(source)
