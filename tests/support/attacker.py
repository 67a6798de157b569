"""Who holds a sealed token and what an error tracker was sent, and looks for what opens it."""

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bufpool_workers import memory
from bufpool_workers.sealing import Token
from bufpool_workers.sealing.keys import read_private


class Attacker:
    """Knows all that opens one token, and finds it in texts."""

    def __init__(self, token: str, *, key_file: Path, secret: bytes, task: str, argument: str):
        parsed = Token.parse(token, where="")
        private = read_private(key_file, acquire=memory.secure_buffer).private
        self.sealed = parsed.sealed
        self.known = {
            "secret": secret,
            "private": private.private_bytes_raw(),
            **_derived(parsed, private, info=parsed.header.info(task=task, argument=argument)),
        }
        self._notations = {name: _notations(value) for name, value in self.known.items()}

    def found(self, payload: str) -> list[str]:
        """Return the names of what the payload shows, in any notation that a tracker may use."""
        return [
            name
            for name, notations in self._notations.items()
            if any(text in payload for text in notations)
        ]


def _derived(token, private, *, info):
    """Return what HPKE computes on its way to the secret, by name; RFC 9180 once more."""
    kem = b"HPKE-v1KEM" + bytes.fromhex("0020")
    suite = b"HPKE-v1HPKE" + bytes.fromhex("002000010002")
    sha256 = SHA256()

    def extract(salt, label, material, suite=suite):
        return HKDF.extract(sha256, salt, suite + label + material)

    def expand(secret, label, context, length, suite=suite):
        text = length.to_bytes(2, "big") + suite + label + context + b"\x01"
        return HKDF.extract(sha256, secret, text)[:length]

    enc = token.sealed[:32]
    exchanged = private.exchange(X25519PublicKey.from_public_bytes(enc))
    eae = extract(b"", b"eae_prk", exchanged, kem)
    public = private.public_key().public_bytes_raw()
    shared = expand(eae, b"shared_secret", enc + public, 32, kem)
    secret = extract(shared, b"secret", b"")
    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    return {
        "exchanged": exchanged,
        "eae_prk": eae,
        "shared_secret": shared,
        "schedule": secret,
        "key": expand(secret, b"key", context, 32),
        "nonce": expand(secret, b"base_nonce", context, 12),
    }


def _notations(value: bytes) -> set[str]:
    shown = [repr(value)[2:-1], value.decode("utf-8", "replace"), value.decode("latin-1")]
    texts = {value.hex(), value.hex().upper(), base64.b64encode(value).decode()[: len(value)]}
    for text in shown:
        texts |= {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    numbers = list(value)
    texts |= {repr(numbers)[1:-1], json.dumps(numbers, separators=(",", ":"))[1:-1]}
    texts.add(json.dumps([str(n) for n in numbers], separators=(",", ":"))[1:-1])
    return texts
