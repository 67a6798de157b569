"""HPKE with `cryptography`'s own as the other side; the vectors are in `test_vectors.py`."""

from cryptography.hazmat.primitives import hpke as reference
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bufpool_workers.sealing import hpke

REFERENCE = reference.Suite(
    reference.KEM.X25519, reference.KDF.HKDF_SHA256, reference.AEAD.AES_256_GCM
)


def key_pair(private=None):
    private = private or X25519PrivateKey.generate()
    return hpke.KeyPair(private, private.public_key().public_bytes_raw())


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


def test_in_auth_mode_only_the_senders_own_opens():
    pair, sender, other = key_pair(), key_pair(), key_pair()
    public = pair.private.public_key()
    sealed = hpke.AES_256_GCM.seal(b"secret", recipient=public, info=b"a", sender=sender)
    buffer = bytearray(6)

    def opens(sealed, *, by):
        public = by and by.private.public_key()
        return hpke.AES_256_GCM.open_into(
            buffer, sealed=sealed, recipient=pair, info=b"a", sender=public
        )

    assert opens(sealed, by=sender)
    assert buffer == b"secret"
    assert not opens(sealed, by=other)
    assert not opens(sealed, by=None)
    unauthenticated = hpke.AES_256_GCM.seal(b"secret", recipient=public, info=b"a")
    assert not opens(unauthenticated, by=sender)
