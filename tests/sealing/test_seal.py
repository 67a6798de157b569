"""Sealing by the producer, opening by the worker, and everything that must not open."""

import array
import base64
import hashlib
import pickle
import struct
import time
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from bufpool_workers import errors
from bufpool_workers.sealing import Keyring, Token, generate_key, producer, read_public, seal
from bufpool_workers.sealing import keyring as keyring_module
from tests.sealing.lender import Lender

SECRET = b"correct horse battery staple"
BOUND = {"task": "shop.login", "argument": "password"}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "worker.key"
    return path, generate_key(path)


@pytest.fixture(scope="module")
def public_key(key):
    return key[1]


@pytest.fixture(scope="module")
def lender():
    return Lender()


@pytest.fixture(scope="module")
def keyring(key, lender):
    return Keyring([key[0]], acquire=lender)


@pytest.fixture
def sealed(public_key):
    return seal(SECRET, **BOUND, expires=300, public_key=public_key)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_800_000_000.0

        def time(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(producer, "time", clock)
    monkeypatch.setattr(keyring_module, "time", clock)
    return clock


def assert_refused(keyring, lender, text, error, match, **given):
    lent = len(lender.lent)
    with pytest.raises(error, match=match) as caught:
        keyring.unseal(text, **(BOUND | given))
    assert all(not any(buffer) and buffer.released for buffer in lender.lent[lent:])
    assert str(caught.value).startswith("shop.")
    assert "horse" not in str(caught.value)
    assert type(pickle.loads(pickle.dumps(caught.value))) is error  # noqa: S301 - our own
    return caught.value


class TestRoundTrip:
    @pytest.mark.parametrize(
        "secret",
        [b"", b"x", SECRET, bytes(100_000), bytearray(SECRET), memoryview(SECRET)],
        ids=["empty", "byte", "bytes", "large", "bytearray", "memoryview"],
    )
    def test_a_secret_arrives_in_a_buffer_of_its_length(self, keyring, public_key, secret):
        buffer = keyring.unseal(seal(secret, **BOUND, public_key=public_key), **BOUND)
        assert bytes(buffer) == bytes(secret)

    def test_a_str_arrives_as_utf8(self, keyring, public_key):
        buffer = keyring.unseal(seal("pässword", **BOUND, public_key=public_key), **BOUND)
        assert bytes(buffer) == "pässword".encode()

    def test_any_contiguous_buffer_arrives_as_its_bytes(self, keyring, public_key):
        numbers = array.array("d", [1.5, 2.5])
        buffer = keyring.unseal(seal(numbers, **BOUND, public_key=public_key), **BOUND)
        assert bytes(buffer) == numbers.tobytes()

    def test_one_secret_sealed_twice_looks_different(self, public_key):
        first, second = (
            Token.parse(seal(SECRET, **BOUND, public_key=public_key), where="") for _ in range(2)
        )
        assert first.use_id != second.use_id
        assert first.sealed[32:] != second.sealed[32:]

    def test_a_token_is_ascii_and_shows_no_secret(self, sealed):
        assert sealed.isascii()
        assert SECRET not in sealed.encode()

    def test_a_key_that_was_read_before_can_be_given(self, keyring, public_key):
        token = seal(SECRET, **BOUND, public_key=read_public(public_key))
        assert bytes(keyring.unseal(token, **BOUND)) == SECRET

    def test_a_task_stands_for_its_name(self, keyring, public_key):
        class Task:
            name = "shop.login"

            def __call__(self): ...

        token = seal(SECRET, task=Task(), argument="password", public_key=public_key)
        assert bytes(keyring.unseal(token, **BOUND)) == SECRET

    def test_any_of_several_keys_opens_its_own_tokens(self, tmp_path, lender):
        publics = [generate_key(tmp_path / name) for name in ("old", "new")]
        keyring = Keyring([tmp_path / "new", tmp_path / "old"], acquire=lender)
        for public in publics:
            token = seal(SECRET, **BOUND, public_key=public)
            assert bytes(keyring.unseal(token, **BOUND)) == SECRET


def test_any_hpke_library_can_seal_by_the_drawn_layout(keyring, public_key):
    raw = bytes.fromhex(public_key.removeprefix("bps1-public-"))
    key_id = hashlib.sha256(raw).digest()[:8]
    header = struct.pack(">BQ", 0, int(time.time()) + 300)
    info = b"bps1" + key_id + header + struct.pack(">H", 10) + b"shop.login" + b"password"
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    sealed = suite.encrypt(SECRET, X25519PublicKey.from_public_bytes(raw), info)
    body = base64.urlsafe_b64encode(header + sealed).decode().rstrip("=")
    assert bytes(keyring.unseal(f"bps1.{key_id.hex()}.{body}", **BOUND)) == SECRET


class TestRefusals:
    def test_another_task(self, keyring, lender, sealed):
        message = "shop.pay, argument 'password': the token was sealed for another task"
        assert_refused(keyring, lender, sealed, errors.OpenFailed, message, task="shop.pay")

    def test_another_argument(self, keyring, lender, sealed):
        message = "shop.login, argument 'pin': the token was sealed for another task or argument"
        assert_refused(keyring, lender, sealed, errors.OpenFailed, message, argument="pin")

    def test_a_key_that_is_not_held(self, keyring, lender, tmp_path):
        other = generate_key(tmp_path / "other.key")
        message = f"sealed to key {read_public(other).key_id}, keys held here: "
        token = seal(SECRET, **BOUND, public_key=other)
        error = assert_refused(keyring, lender, token, errors.UnknownKey, message)
        assert keyring.key_ids[0] in str(error)

    def test_an_empty_keyring_names_the_setting(self, lender, sealed):
        keyring = Keyring([], acquire=lender)
        assert_refused(keyring, lender, sealed, errors.UnknownKey, "set bufpool_private_keys")

    def test_the_key_id_of_another_key_does_not_help(self, keyring, lender, tmp_path):
        other = generate_key(tmp_path / "other.key")
        token = seal(SECRET, **BOUND, public_key=other)
        renamed = token.replace(read_public(other).key_id, keyring.key_ids[0])
        assert_refused(keyring, lender, renamed, errors.OpenFailed, "was altered")

    def test_a_plain_value(self, keyring, lender):
        assert_refused(keyring, lender, SECRET.decode(), errors.NotSealed, "got a plain str")

    def test_a_token_opens_until_its_expiry_and_not_after(self, clock, keyring, lender, public_key):
        token = seal(SECRET, **BOUND, expires=timedelta(seconds=60), public_key=public_key)
        clock.now += 59.5
        assert bytes(keyring.unseal(token, **BOUND)) == SECRET
        clock.now += 2.5
        assert_refused(keyring, lender, token, errors.TokenExpired, "expired 2 seconds ago")

    def test_an_expiry_that_was_moved(self, keyring, lender, public_key):
        token = Token.parse(seal(SECRET, **BOUND, expires=60, public_key=public_key), where="")
        later = token._replace(header=token.header._replace(expires_at=0)).text()
        assert_refused(keyring, lender, later, errors.OpenFailed, "was altered")

    def test_a_single_use_flag_that_was_taken_off(self, keyring, lender, public_key):
        text = seal(SECRET, **BOUND, expires=60, single_use=True, public_key=public_key)
        token = Token.parse(text, where="")
        freed = token._replace(header=token.header._replace(single_use=False)).text()
        assert_refused(keyring, lender, freed, errors.OpenFailed, "was altered")

    def test_an_encapsulated_key_that_yields_nothing(self, keyring, lender, sealed):
        token = Token.parse(sealed, where="")
        weak = token._replace(sealed=bytes(32) + token.sealed[32:]).text()
        assert_refused(keyring, lender, weak, errors.OpenFailed, "was altered")

    @given(data=st.data())
    def test_any_altered_byte(self, keyring, lender, public_key, data):
        token = Token.parse(seal(SECRET, **BOUND, public_key=public_key), where="")
        body = bytearray(token.sealed)
        position = data.draw(st.integers(0, len(body) - 1))
        body[position] ^= data.draw(st.integers(1, 255))
        text = token._replace(sealed=bytes(body)).text()
        assert_refused(keyring, lender, text, errors.OpenFailed, "was altered")

    def test_decrypted_bytes_are_wiped_when_the_tag_is_wrong(self, keyring, lender, sealed):
        token = Token.parse(sealed, where="")
        body = token.sealed[:-1] + bytes([token.sealed[-1] ^ 1])
        assert_refused(
            keyring, lender, token._replace(sealed=body).text(), errors.OpenFailed, "was altered"
        )
        assert len(lender.lent[-1]) == len(SECRET)


class TestSingleUse:
    @pytest.fixture
    def token(self, public_key):
        return seal(SECRET, **BOUND, expires=60, single_use=True, public_key=public_key)

    def test_a_genuine_token_is_claimed_once_it_is_open(self, keyring, token):
        claimed = []
        buffer = keyring.unseal(
            token, **BOUND, claim=lambda token, *, where: claimed.append((token.use_id, where))
        )
        use_id = Token.parse(token, where="").use_id
        assert claimed == [(use_id, "shop.login, argument 'password'")]
        assert bytes(buffer) == SECRET

    def test_a_refused_claim_wipes_and_keeps_its_error(self, keyring, lender, token):
        def claim(_, *, where):
            raise errors.TokenReplayed(f"{where}: used before")

        assert_refused(keyring, lender, token, errors.TokenReplayed, "used before", claim=claim)

    def test_an_interrupt_during_the_claim_wipes(self, keyring, lender, token):
        def claim(*_, **__):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            keyring.unseal(token, **BOUND, claim=claim)
        assert lender.lent[-1] == bytes(len(SECRET))
        assert lender.lent[-1].released

    def test_a_forged_token_is_not_claimed(self, keyring, token):
        claimed = []
        with pytest.raises(errors.OpenFailed):
            keyring.unseal(
                token, task="shop.pay", argument="pin", claim=lambda *_, **__: claimed.append(1)
            )
        assert claimed == []

    def test_without_a_store_it_stays_closed(self, keyring, lender, token):
        assert_refused(keyring, lender, token, errors.ReplayStoreError, "no store of used ones")

    def test_a_token_of_many_uses_is_not_claimed(self, keyring, sealed):
        claimed = []
        keyring.unseal(sealed, **BOUND, claim=lambda *_, **__: claimed.append(1))
        assert claimed == []


class TestWipe:
    def test_the_callers_buffer_is_zeroed_on_request(self, keyring, public_key):
        secret = bytearray(SECRET)
        token = seal(secret, **BOUND, public_key=public_key, wipe=True)
        assert secret == bytes(len(SECRET))
        assert bytes(keyring.unseal(token, **BOUND)) == SECRET

    def test_it_is_left_alone_otherwise(self, public_key):
        secret = bytearray(SECRET)
        seal(secret, **BOUND, public_key=public_key)
        assert secret == SECRET

    def test_it_is_zeroed_when_sealing_fails(self, tmp_path):
        secret = bytearray(SECRET)
        with pytest.raises(errors.KeyFileError):
            seal(secret, **BOUND, public_key=tmp_path / "none.pub", wipe=True)
        assert secret == bytes(len(SECRET))

    @pytest.mark.parametrize("secret", [b"bytes", "text", memoryview(b"view")])
    def test_wipe_refuses_a_read_only_secret(self, public_key, secret):
        with pytest.raises(TypeError, match="is read-only"):
            seal(secret, **BOUND, public_key=public_key, wipe=True)


class TestMisuse:
    @pytest.mark.parametrize("secret", [None, 5, ["x"]])
    def test_a_secret_without_bytes_is_refused(self, public_key, secret):
        with pytest.raises(TypeError, match="secret must be bytes-like or str, got"):
            seal(secret, **BOUND, public_key=public_key)

    def test_a_buffer_with_gaps_is_refused(self, public_key):
        with pytest.raises(TypeError, match="contiguous"):
            seal(memoryview(SECRET)[::2], **BOUND, public_key=public_key)

    @pytest.mark.parametrize("expires", [0, -1, float("nan"), float("inf"), timedelta(0)])
    def test_an_expiry_that_never_is_or_was_is_refused(self, public_key, expires):
        with pytest.raises(ValueError, match="more than 0 seconds"):
            seal(SECRET, **BOUND, expires=expires, public_key=public_key)

    @pytest.mark.parametrize("expires", [True, "300"])
    def test_an_expiry_of_another_type_is_refused(self, public_key, expires):
        with pytest.raises(TypeError, match="seconds from now or a timedelta, got"):
            seal(SECRET, **BOUND, expires=expires, public_key=public_key)

    def test_single_use_demands_an_expiry(self, public_key):
        with pytest.raises(ValueError, match="single-use token needs expires"):
            seal(SECRET, **BOUND, single_use=True, public_key=public_key)

    @pytest.mark.parametrize("task", [None, "", 5])
    def test_seal_refuses_an_object_that_is_no_task(self, public_key, task):
        with pytest.raises(TypeError, match="task must be a task or its name"):
            seal(SECRET, task=task, argument="password", public_key=public_key)

    @pytest.mark.parametrize("argument", [None, "", "not a name"])
    def test_seal_refuses_an_argument_that_the_task_lacks(self, public_key, argument):
        with pytest.raises(ValueError, match="one of the task's parameters"):
            seal(SECRET, task="shop.login", argument=argument, public_key=public_key)
