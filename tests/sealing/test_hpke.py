"""RFC 9180's own vectors, and `cryptography`'s HPKE as the other side."""

import pytest
from cryptography.hazmat.primitives import hpke as reference
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bufpool_workers.sealing import hpke

# Appendices A.1.1 and A.2.1 (base mode), sequence number 0; what both share stands here.
INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
AAD = b"Count-0"
PLAINTEXT = b"Beauty is truth, truth beauty"
A1 = {
    "suite": hpke.AES_128_GCM,
    "skEm": "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
    "skRm": "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
    "pkRm": "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
    "enc": "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
    "ct": "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9"
    "6d8770ac83d07bea87e13c512a",
}
A2 = {
    "suite": hpke.CHACHA20_POLY1305,
    "skEm": "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600",
    "skRm": "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
    "pkRm": "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
    "enc": "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
    "ct": "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db"
    "21993c62ce81883d2dd1b51a28",
}
vectors = pytest.mark.parametrize("vector", [A1, A2], ids=["A.1", "A.2"])
REFERENCE = reference.Suite(
    reference.KEM.X25519, reference.KDF.HKDF_SHA256, reference.AEAD.AES_256_GCM
)


def key_pair(private=None):
    private = private or X25519PrivateKey.generate()
    return hpke.KeyPair(private, private.public_key().public_bytes_raw())


def vector_pair(vector):
    return key_pair(X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skRm"])))


@vectors
def test_the_recipients_public_key_is_the_vectors(vector):
    assert vector_pair(vector).public.hex() == vector["pkRm"]


@vectors
def test_sealing_yields_the_vectors_ciphertext(vector):
    sealed = vector["suite"].seal(
        PLAINTEXT,
        recipient=vector_pair(vector).private.public_key(),
        info=INFO,
        aad=AAD,
        ephemeral=X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skEm"])),
    )
    assert sealed.hex() == vector["enc"] + vector["ct"]


@vectors
def test_opening_the_vectors_ciphertext_yields_its_plaintext(vector):
    buffer = bytearray(len(PLAINTEXT))
    assert vector["suite"].open_into(
        buffer,
        sealed=bytes.fromhex(vector["enc"] + vector["ct"]),
        recipient=vector_pair(vector),
        info=INFO,
        aad=AAD,
    )
    assert buffer == PLAINTEXT


@given(plaintext=st.binary(max_size=300), info=st.binary(max_size=300))
def test_what_cryptography_seals_we_open(plaintext, info):
    pair = key_pair()
    sealed = REFERENCE.encrypt(plaintext, pair.private.public_key(), info)
    buffer = bytearray(len(plaintext))
    assert hpke.AES_256_GCM.open_into(buffer, sealed=sealed, recipient=pair, info=info)
    assert buffer == plaintext


@given(plaintext=st.binary(max_size=300), info=st.binary(max_size=300))
def test_what_we_seal_cryptography_opens(plaintext, info):
    pair = key_pair()
    sealed = hpke.AES_256_GCM.seal(plaintext, recipient=pair.private.public_key(), info=info)
    assert REFERENCE.decrypt(sealed, pair.private, info) == plaintext


def test_a_message_opens_with_its_own_info_only():
    pair = key_pair()
    sealed = hpke.AES_256_GCM.seal(b"secret", recipient=pair.private.public_key(), info=b"a")
    assert not hpke.AES_256_GCM.open_into(bytearray(6), sealed=sealed, recipient=pair, info=b"b")


def test_an_encapsulated_key_that_yields_nothing_does_not_open():
    sealed = bytes(32 + 16 + 6)
    assert not hpke.AES_256_GCM.open_into(
        bytearray(6), sealed=sealed, recipient=key_pair(), info=b""
    )
