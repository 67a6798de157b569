"""Hybrid public key encryption, RFC 9180: base mode, one message, DHKEM(X25519, HKDF-SHA256).

`cryptography` has an HPKE of its own, which only returns the plaintext as `bytes`, and bytes can
not be wiped. This one differs in `open_into`, which decrypts straight into a given buffer.
The shared secret and the key of one message do pass through ordinary `bytes` here; whoever can
read them in a worker's memory can read the private key next to them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from traceback import clear_frames
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bufpool_workers.sealing.token import ENC_BYTES

if TYPE_CHECKING:
    from cryptography.utils import Buffer

_SHA256 = SHA256()
_KEM_ID = (0x0020).to_bytes(2, "big")
_KDF_ID = (0x0001).to_bytes(2, "big")
_KEM_LABEL = b"HPKE-v1" + b"KEM" + _KEM_ID
_HASH_BYTES = 32
_NONCE_BYTES = 12
_BASE_MODE = b"\x00"

_P = ParamSpec("_P")
_R = TypeVar("_R")


class KeyPair(NamedTuple):
    """A private key, and the raw public key that belongs to it."""

    private: X25519PrivateKey
    public: bytes


class _Cipher(Protocol):
    def encrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...

    def decrypt_into(
        self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer
    ) -> int: ...


def _leaving_no_frames(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Clear the frames of what a call raises: they hold keys, which error trackers would send."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            clear_frames(error.__traceback__)
            raise

    return call


@dataclass(frozen=True, slots=True)
class Suite:
    """One AEAD of RFC 9180, section 7.3, with the KEM and KDF of this module."""

    aead_id: int
    key_bytes: int
    cipher: Callable[[bytes], _Cipher]
    _label: bytes = field(init=False, repr=False)
    _psk_id_hash: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute what is the same for every message of the suite."""
        aead = self.aead_id.to_bytes(2, "big")
        label = b"HPKE-v1" + b"HPKE" + _KEM_ID + _KDF_ID + aead
        object.__setattr__(self, "_label", label)
        object.__setattr__(self, "_psk_id_hash", _extract(b"", label + b"psk_id_hash"))

    def key_schedule(self, shared_secret: bytes, *, info: bytes) -> tuple[bytes, bytes]:
        """Return the key and the base nonce, RFC 9180, section 5.1, with no pre-shared key."""
        context = _BASE_MODE + self._psk_id_hash + _extract(b"", self._label + b"info_hash" + info)
        secret = _extract(shared_secret, self._label + b"secret")
        key = _expand(secret, self._label + b"key" + context, self.key_bytes)
        return key, _expand(secret, self._label + b"base_nonce" + context, _NONCE_BYTES)

    @_leaving_no_frames
    def seal(
        self,
        plaintext: Buffer,
        *,
        recipient: X25519PublicKey,
        info: bytes,
        aad: bytes | None = None,
        ephemeral: X25519PrivateKey | None = None,
    ) -> bytes:
        """Return the encapsulated key, `ENC_BYTES` long, followed by the ciphertext and its tag."""
        shared_secret, enc = encapsulate(recipient, ephemeral=ephemeral)
        key, nonce = self.key_schedule(shared_secret, info=info)
        return enc + self.cipher(key).encrypt(nonce, plaintext, aad)

    @_leaving_no_frames
    def open_into(
        self,
        buffer: Buffer,
        *,
        sealed: bytes,
        recipient: KeyPair,
        info: bytes,
        aad: bytes | None = None,
    ) -> None:
        """Decrypt what `seal` returned into `buffer`, exactly as long as the plaintext.

        Raises `InvalidTag` or ValueError. The buffer then holds unauthenticated bytes: wipe it.
        """
        shared_secret = decapsulate(sealed[:ENC_BYTES], recipient=recipient)
        key, nonce = self.key_schedule(shared_secret, info=info)
        self.cipher(key).decrypt_into(nonce, memoryview(sealed)[ENC_BYTES:], aad, buffer)


def _extract(salt: bytes, material: bytes) -> bytes:
    return HKDF.extract(_SHA256, salt, material)


def _expand(secret: bytes, info: bytes, length: int) -> bytes:
    # RFC 9180, section 4: a labelled expand puts the wanted length before everything else. RFC
    # 5869, section 2.3: up to one hash long, an expand is one HMAC over info and 1, and so is an
    # extract; HKDF.extract does it in fewer steps than HKDFExpand.
    labelled = length.to_bytes(2, "big") + info + b"\x01"
    return HKDF.extract(_SHA256, secret, labelled)[:length]


AES_128_GCM = Suite(0x0001, 16, AESGCM)
AES_256_GCM = Suite(0x0002, 32, AESGCM)
CHACHA20_POLY1305 = Suite(0x0003, 32, ChaCha20Poly1305)


def _shared_secret(exchanged: bytes, *, enc: bytes, recipient: bytes) -> bytes:
    secret = _extract(b"", _KEM_LABEL + b"eae_prk" + exchanged)
    return _expand(secret, _KEM_LABEL + b"shared_secret" + enc + recipient, _HASH_BYTES)


def encapsulate(
    recipient: X25519PublicKey, *, ephemeral: X25519PrivateKey | None = None
) -> tuple[bytes, bytes]:
    """Return a fresh shared secret and its encapsulation; `ephemeral` is for test vectors only."""
    if ephemeral is None:
        ephemeral = X25519PrivateKey.generate()
    enc = ephemeral.public_key().public_bytes_raw()
    exchanged = ephemeral.exchange(recipient)
    return _shared_secret(exchanged, enc=enc, recipient=recipient.public_bytes_raw()), enc


def decapsulate(enc: bytes, *, recipient: KeyPair) -> bytes:
    """Return the shared secret; ValueError if `enc` is one of the points that yield nothing."""
    exchanged = recipient.private.exchange(X25519PublicKey.from_public_bytes(enc))
    return _shared_secret(exchanged, enc=enc, recipient=recipient.public)
