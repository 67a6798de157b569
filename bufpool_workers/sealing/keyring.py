"""The side that opens: private keys, and a token decrypted straight into a buffer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import NoReturn, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from bufpool_workers import memory
from bufpool_workers.errors import (
    KeyFileError,
    OpenFailed,
    ReplayStoreError,
    TokenExpired,
    UnknownKey,
)
from bufpool_workers.memory import Buffer
from bufpool_workers.sealing.buffers import Acquire, wipe
from bufpool_workers.sealing.hpke import AES_256_GCM, KeyPair
from bufpool_workers.sealing.keys import PublicKey, key_id, new_pair, public_text, read_private
from bufpool_workers.sealing.result_token import ResultToken
from bufpool_workers.sealing.token import ENC_BYTES, TAG_BYTES, Token


class Claim(Protocol):
    """Marks a single-use token as used, or raises a SealError."""

    def __call__(self, token: Token, /, *, where: str) -> None:
        """Return at the token's first use by this task and at the task's own retries."""


class Keyring:
    """The private keys of one process, by the key id that tokens carry.

    Each of `paths` is a file or `credential:NAME` (see `read_private`); several serve rotation.
    Make it after the fork: a keyring made before one is shared with every child. The keys lie in
    OpenSSL's memory for as long as the keyring lives; code that reads that memory can open tokens.
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
        self._hold(
            [read_private(path, acquire=read_with or acquire) for path in paths], acquire=acquire
        )

    def _hold(self, pairs: Iterable[KeyPair], *, acquire: Acquire) -> None:
        self._keys = {key_id(pair.public): pair for pair in pairs}
        self._acquire = acquire

    @classmethod
    def in_memory(cls) -> tuple[Keyring, str]:
        """Return a keyring with a new key that lies in memory only, and its public key's text."""
        pair = new_pair()
        keyring = cls.__new__(cls)
        keyring._hold([pair], acquire=memory.secure_buffer)  # noqa: SLF001 - its own
        return keyring, public_text(pair)

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

        def accept() -> None:
            if header.single_use and claim is not None:
                claim(token, where=where)

        return self._open(
            token.sealed,
            recipient=recipient,
            info=header.info(task=task, argument=argument),
            failure=f"{where}: the token was sealed for another task or argument, or was altered",
            accept=accept,
        )

    def unseal_result(
        self, text: object, *, task: str, task_id: str, senders: Iterable[PublicKey]
    ) -> Buffer:
        """Return a buffer with the result that a worker sealed to one of these keys.

        `senders` are the public keys of the workers that may have. Raises a SealError that names
        the task and never content.
        """
        where = f"result of {task}"
        token = ResultToken.parse(text, where=where)
        header = token.header
        if (header.task, header.task_id) != (task, task_id):
            raise OpenFailed(f"{where}: the token is the result of another task or another run")
        by_id = {sender.key_id: sender.key for sender in senders}
        if header.sender_id not in by_id:
            raise UnknownKey(
                f"{where}: sealed by a worker with key {header.sender_id}, expected "
                f"{', '.join(by_id)}"
            )
        recipient = self._keys.get(header.key_id)
        if recipient is None:
            held = ", ".join(self._keys) or "none; set bufpool_result_private_keys"
            raise UnknownKey(f"{where}: sealed to key {header.key_id}, keys held here: {held}")
        return self._open(
            token.sealed,
            recipient=recipient,
            info=header.info(),
            failure=f"{where}: the token was sealed by another worker, or was altered",
            sender=by_id[header.sender_id],
        )

    def sender(self, preferred: str | None = None) -> KeyPair:
        """Return the key pair that proves who sealed: that of an id if it is held, else the first.

        Raises KeyFileError if there is none.
        """
        if not self._keys:
            raise KeyFileError("no private key to seal results with: set bufpool_private_keys")
        return self._keys.get(preferred or "") or next(iter(self._keys.values()))

    def _open(  # noqa: PLR0913 - all but the first by keyword
        self,
        sealed: bytes,
        *,
        recipient: KeyPair,
        info: bytes,
        failure: str,
        sender: X25519PublicKey | None = None,
        accept: Callable[[], None] = lambda: None,
    ) -> Buffer:
        buffer = self._acquire(len(sealed) - ENC_BYTES - TAG_BYTES)
        try:
            is_open = AES_256_GCM.open_into(
                buffer, sealed=sealed, recipient=recipient, info=info, sender=sender
            )
            if not is_open:
                raise OpenFailed(failure)  # noqa: TRY301 - wiped as after any other error
            accept()
        except BaseException:
            wipe(buffer)
            buffer.release()
            raise
        return buffer
