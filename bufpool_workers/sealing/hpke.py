"""Hybrid public key encryption, RFC 9180: base and auth mode, one message, with X25519.

`cryptography` has an HPKE of its own, which only returns the plaintext as `bytes`, and bytes can
not be wiped. This one differs in `open_into`, which decrypts straight into a given buffer, and in
auth mode, which proves who sealed.

An exception may pass at any bytecode, and error trackers send the locals of every frame that it
passes. So no shared secret, key or nonce is ever a local or an argument of a Python function here:
each goes, within one expression, from one of OpenSSL's objects into the next. The key of one
message does pass through ordinary memory on that way; code that can read that memory can read the
private key next to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from bufpool_workers.sealing.token import ENC_BYTES

if TYPE_CHECKING:
    from cryptography.utils import Buffer
    from typing_extensions import Buffer as AnyBuffer

_SHA256 = SHA256()
_KEM_ID = (0x0020).to_bytes(2, "big")
_KDF_ID = (0x0001).to_bytes(2, "big")
_KEM_LABEL = b"HPKE-v1" + b"KEM" + _KEM_ID
_HASH_BYTES = 32
_NO_SALT = bytes(_HASH_BYTES)
_NONCE_BYTES = 12
_BASE_MODE, _AUTH_MODE = b"\x00", b"\x02"


def _begun(text: bytes) -> HMAC:
    """Return an HMAC without a salt, begun with a public text: to copy it is quicker."""
    mac = HMAC(_NO_SALT, _SHA256)
    mac.update(text)
    return mac


_EXTRACT = _begun(_KEM_LABEL + b"eae_prk")


class KeyPair(NamedTuple):
    """A private key, and the raw public key that belongs to it."""

    private: X25519PrivateKey
    public: bytes


class _Cipher(Protocol):
    def encrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...

    def decrypt_into(
        self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer
    ) -> int: ...


class _Exchange(NamedTuple):
    """The values from which both sides of one message compute the same secret."""

    first: tuple[X25519PrivateKey, X25519PublicKey]
    second: tuple[X25519PrivateKey, X25519PublicKey] | None  # in auth mode
    context: bytes


@dataclass(frozen=True, slots=True)
class Suite:
    """One AEAD of RFC 9180, section 7.3, with the KEM and KDF of this module."""

    aead_id: int
    key_bytes: int
    cipher: Callable[[bytes], _Cipher]
    _label: bytes = field(init=False, repr=False)
    _unsalted: HMAC = field(init=False, repr=False, compare=False)
    _psk_id_hash: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute what is the same for every message of the suite."""
        aead = self.aead_id.to_bytes(2, "big")
        label = b"HPKE-v1" + b"HPKE" + _KEM_ID + _KDF_ID + aead
        object.__setattr__(self, "_label", label)
        object.__setattr__(self, "_unsalted", _begun(label))
        object.__setattr__(self, "_psk_id_hash", self._hash(b"psk_id_hash"))

    def seal(  # noqa: PLR0913 - RFC 9180's own parameters, all but one by keyword
        self,
        plaintext: Buffer,
        *,
        recipient: X25519PublicKey,
        info: bytes,
        aad: bytes | None = None,
        sender: KeyPair | None = None,
        ephemeral: X25519PrivateKey | None = None,
    ) -> bytes:
        """Return the encapsulated key, `ENC_BYTES` long, followed by the ciphertext and its tag.

        With a `sender` in auth mode. `ephemeral` is for test vectors only.
        """
        if ephemeral is None:
            ephemeral = X25519PrivateKey.generate()
        enc = ephemeral.public_key().public_bytes_raw()
        exchange = _Exchange(
            (ephemeral, recipient),
            None if sender is None else (sender.private, recipient),
            enc + recipient.public_bytes_raw() + (b"" if sender is None else sender.public),
        )
        cipher, nonce = self._cipher_and_nonce(exchange, info=info)
        return enc + cipher.encrypt(nonce.finalize()[:_NONCE_BYTES], plaintext, aad)

    def open_into(  # noqa: PLR0913 - as seal
        self,
        buffer: AnyBuffer,
        *,
        sealed: bytes,
        recipient: KeyPair,
        info: bytes,
        aad: bytes | None = None,
        sender: X25519PublicKey | None = None,
    ) -> bool:
        """Decrypt what `seal` returned into `buffer`, exactly as long as the plaintext.

        With a `sender` in auth mode: what another one sealed does not open. Return False if it
        does not open; then, and after an exception, the buffer may hold unauthenticated bytes:
        wipe it.
        """
        enc = sealed[:ENC_BYTES]
        exchange = _Exchange(
            (recipient.private, X25519PublicKey.from_public_bytes(enc)),
            None if sender is None else (recipient.private, sender),
            enc + recipient.public + (b"" if sender is None else sender.public_bytes_raw()),
        )
        try:
            cipher, nonce = self._cipher_and_nonce(exchange, info=info)
            ciphertext = memoryview(sealed)[ENC_BYTES:]
            with memoryview(buffer) as view:
                cipher.decrypt_into(nonce.finalize()[:_NONCE_BYTES], ciphertext, aad, view)
        except (InvalidTag, ValueError):  # ValueError: `enc` is a point that yields nothing
            return False
        return True

    def _cipher_and_nonce(self, exchange: _Exchange, *, info: bytes) -> tuple[_Cipher, HMAC]:
        """Return the cipher of one message, and the HMAC whose first bytes are its nonce.

        RFC 9180, sections 4.1 and 5.1, with no pre-shared key. Raises ValueError if a public key
        is one of the points that yield nothing.
        """
        mac = _EXTRACT.copy()
        mac.update(exchange.first[0].exchange(exchange.first[1]))
        if exchange.second is not None:
            mac.update(exchange.second[0].exchange(exchange.second[1]))
        shared = _KEM_LABEL + b"shared_secret" + exchange.context
        mac = _keyed_by(_expanded(_keyed_by(mac), shared, _HASH_BYTES))
        mac.update(self._label + b"secret")
        secret = _keyed_by(mac)
        mode = _BASE_MODE if exchange.second is None else _AUTH_MODE
        context = mode + self._psk_id_hash + self._hash(b"info_hash" + info)
        key = _expanded(secret, self._label + b"key" + context, self.key_bytes)
        nonce = _expanded(secret, self._label + b"base_nonce" + context, _NONCE_BYTES)
        return self.cipher(key.finalize()[: self.key_bytes]), nonce

    def _hash(self, text: bytes) -> bytes:
        mac = self._unsalted.copy()
        mac.update(text)
        return mac.finalize()


def _keyed_by(mac: HMAC) -> HMAC:
    return HMAC(mac.finalize(), _SHA256)


def _expanded(secret: HMAC, info: bytes, length: int) -> HMAC:
    """Return the HMAC whose first `length` bytes, at most one hash, are a labelled expand.

    RFC 9180, section 4, puts the wanted length before everything else. By RFC 5869, section 2.3,
    an expand of up to one hash is one HMAC over info and 1.
    """
    mac = secret.copy()
    mac.update(length.to_bytes(2, "big") + info + b"\x01")
    return mac


AES_128_GCM = Suite(0x0001, 16, AESGCM)
AES_256_GCM = Suite(0x0002, 32, AESGCM)
CHACHA20_POLY1305 = Suite(0x0003, 32, ChaCha20Poly1305)
