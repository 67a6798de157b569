"""RFC 9180's vectors, and Project Wycheproof's of the primitives that HPKE is made of here."""

import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from bufpool_workers.errors import KeyFileError
from bufpool_workers.sealing import hpke, read_public

SUITES = {
    suite.aead_id: suite for suite in (hpke.AES_128_GCM, hpke.AES_256_GCM, hpke.CHACHA20_POLY1305)
}
AUTH_MODE = 2


def load(name):
    path = Path(__file__).with_name("vectors") / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    columns = content.get("columns")
    return [dict(zip(columns, t, strict=True)) if columns else t for t in content["tests"]]


def decoded(vector):
    """Return a vector with its hexadecimal texts as bytes."""
    return {
        name: bytes.fromhex(value)
        if isinstance(value, str) and name not in {"flags", "result"}
        else value
        for name, value in vector.items()
    }


def pair_of(private, public):
    pair = hpke.KeyPair(X25519PrivateKey.from_private_bytes(private), public)
    assert pair.private.public_key().public_bytes_raw() == public
    return pair


rfc9180 = pytest.mark.parametrize(
    "vector",
    [decoded(vector) for vector in load("rfc9180")],
    ids=lambda vector: f"mode {vector['mode']}, aead {vector['aead_id']}",
)


def sender_of(vector):
    return pair_of(vector["skSm"], vector["pkSm"]) if vector["mode"] == AUTH_MODE else None


@rfc9180
def test_sealing_yields_rfc_9180s_ciphertext(vector):
    sealed = SUITES[vector["aead_id"]].seal(
        vector["pt"],
        recipient=X25519PublicKey.from_public_bytes(vector["pkRm"]),
        info=vector["info"],
        aad=vector["aad"],
        sender=sender_of(vector),
        ephemeral=X25519PrivateKey.from_private_bytes(vector["skEm"]),
    )
    assert sealed == vector["enc"] + vector["ct"]


@rfc9180
def test_opening_rfc_9180s_ciphertext_yields_its_plaintext(vector):
    buffer = bytearray(len(vector["pt"]))
    sender = sender_of(vector)
    assert SUITES[vector["aead_id"]].open_into(
        buffer,
        sealed=vector["enc"] + vector["ct"],
        recipient=pair_of(vector["skRm"], vector["pkRm"]),
        info=vector["info"],
        aad=vector["aad"],
        sender=sender and sender.private.public_key(),
    )
    assert buffer == vector["pt"]


def test_the_packages_suite_is_among_rfc_9180s_in_both_modes():
    modes = {v["mode"] for v in load("rfc9180") if v["aead_id"] == hpke.AES_256_GCM.aead_id}
    assert modes == {0, AUTH_MODE}


def test_x25519_agrees_with_wycheproof():
    refused = 0
    for vector in map(decoded, load("wycheproof_x25519")):
        private = X25519PrivateKey.from_private_bytes(vector["private"])
        public = X25519PublicKey.from_public_bytes(vector["public"])
        if any(vector["shared"]):
            assert private.exchange(public) == vector["shared"], vector["tcId"]
            continue
        refused += 1
        with pytest.raises(ValueError, match="computing shared key"):
            private.exchange(public)
    assert refused == 31


def test_wycheproofs_points_of_low_order_neither_seal_nor_open():
    recipient = X25519PrivateKey.generate()
    pair = hpke.KeyPair(recipient, recipient.public_key().public_bytes_raw())
    for vector in map(decoded, load("wycheproof_x25519")):
        if any(vector["shared"]):
            continue
        with pytest.raises(KeyFileError, match="of low order"):
            read_public(f"bps1-public-{vector['public'].hex()}")
        sealed = vector["public"] + bytes(22)
        for sender in (None, recipient.public_key()):
            assert not hpke.AES_256_GCM.open_into(
                bytearray(6), sealed=sealed, recipient=pair, info=b"", sender=sender
            )


def test_aes_gcm_agrees_with_wycheproof():
    for vector in map(decoded, load("wycheproof_aes_gcm")):
        cipher = hpke.AES_256_GCM.cipher(vector["key"])
        sealed, buffer = vector["ct"] + vector["tag"], bytearray(len(vector["ct"]))
        given = vector["iv"], sealed, vector["aad"]
        if vector["result"] == "invalid":
            with pytest.raises(InvalidTag):
                cipher.decrypt_into(*given, buffer)
            continue
        assert cipher.encrypt(vector["iv"], vector["msg"], vector["aad"]) == sealed
        cipher.decrypt_into(*given, buffer)
        assert buffer == vector["msg"]
