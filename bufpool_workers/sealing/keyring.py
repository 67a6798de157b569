"""The side that opens: private keys, and a token decrypted straight into a buffer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import NoReturn, Protocol

from bufpool_workers import memory
from bufpool_workers.errors import OpenFailed, ReplayStoreError, TokenExpired, UnknownKey
from bufpool_workers.memory import Buffer
from bufpool_workers.sealing.buffers import Acquire, wipe
from bufpool_workers.sealing.hpke import AES_256_GCM
from bufpool_workers.sealing.keys import key_id, read_private
from bufpool_workers.sealing.token import Token


class Claim(Protocol):
    """Marks a single-use token as used, or raises a SealError."""

    def __call__(self, token: Token, /, *, where: str) -> None:
        """Return at the token's first use by this task and at the task's own retries."""


class Keyring:
    """The private keys of one process, by the key id that tokens carry.

    Each of `paths` is a file or `credential:NAME` (see `read_private`); several serve rotation.
    Make it after the fork: a keyring made before one is shared with every child. The keys lie in
    OpenSSL's memory for as long as the keyring lives; whoever reads that memory can open tokens.
    `acquire` lends the buffers that secrets are opened into, `read_with` those that the key files
    are read through, by default the same.
    """

    __slots__ = ("_acquire", "_keys")

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        acquire: Acquire = memory.secure_buffer,
        read_with: Acquire | None = None,
    ) -> None:
        pairs = [read_private(path, acquire=read_with or acquire) for path in paths]
        self._keys = {key_id(pair.public): pair for pair in pairs}
        self._acquire = acquire

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self._keys) or 'empty'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is never pickled: load it in each process")

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of the keys, in the order of their files."""
        return tuple(self._keys)

    def unseal(
        self, text: object, *, task: str, argument: str, claim: Claim | None = None
    ) -> Buffer:
        """Return a buffer of exactly the secret's length that holds it; release it after use.

        Raises a SealError that names task and argument and never content; by then whatever was
        decrypted has been overwritten. A single-use token is claimed last, once it has proved
        genuine, so that forged ones can't fill the store.
        """
        where = f"{task}, argument {argument!r}"
        token = Token.parse(text, where=where)
        header = token.header
        if header.expires_at and (late := time.time() - header.expires_at) >= 0:
            raise TokenExpired(f"{where}: the token expired {late:.0f} seconds ago")
        recipient = self._keys.get(header.key_id)
        if recipient is None:
            held = ", ".join(self._keys) or "none; set bufpool_private_keys"
            raise UnknownKey(f"{where}: sealed to key {header.key_id}, keys held here: {held}")
        if header.single_use and claim is None:
            raise ReplayStoreError(f"{where}: a single-use token, and no store of used ones")
        info = header.info(task=task, argument=argument)
        buffer = self._acquire(token.secret_bytes)
        try:
            is_open = AES_256_GCM.open_into(
                buffer, sealed=token.sealed, recipient=recipient, info=info
            )
            if not is_open:
                raise OpenFailed(  # noqa: TRY301 - wiped as after any other error
                    f"{where}: the token was sealed for another task or argument, or was altered"
                )
            if header.single_use and claim is not None:
                claim(token, where=where)
        except BaseException:
            wipe(buffer)
            buffer.release()
            raise
        return buffer
