import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bufpool_workers.errors import DamagedToken, NotSealed, SealError
from bufpool_workers.sealing import text as token_text
from bufpool_workers.sealing.token import (
    MAX_EXPIRY_SECONDS,
    MAX_SECRET_BYTES,
    Header,
    Token,
)

WHERE = "shop.login, argument 'password'"
HEADER = Header("0123456789abcdef", 1_900_000_000, single_use=True)
TOKEN = Token(HEADER, bytes(range(32)) + b"c" * 21)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

headers = st.builds(
    Header,
    st.text("0123456789abcdef", min_size=16, max_size=16),
    st.integers(0, int(time.time()) + MAX_EXPIRY_SECONDS),
    single_use=st.booleans(),
).filter(lambda header: header.expires_at or not header.single_use)
tokens = st.builds(Token, headers, st.binary(min_size=48, max_size=300))


def parse(text):
    return Token.parse(text, where=WHERE)


@given(tokens)
def test_a_token_survives_its_text(token):
    assert parse(token.text()) == token


def test_the_text_has_the_layout_that_is_drawn():
    body = "AQAAAABxP7MAAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9jY2NjY2NjY2NjY2NjY2NjY2NjY2M"
    assert TOKEN.text() == f"bps1.0123456789abcdef.{body}"


def test_the_bound_info_has_the_layout_that_is_drawn():
    info = HEADER.info(task="shop.login", argument="password")
    flags_and_expiry = "0100000000713fb300"
    assert info == b"bps1" + bytes.fromhex("0123456789abcdef" + flags_and_expiry + "000a") + (
        b"shop.loginpassword"
    )


def test_no_two_pairs_of_names_are_bound_alike():
    first = HEADER.info(task="shop.log", argument="in")
    assert first != HEADER.info(task="shop.lo", argument="gin")


def test_a_task_name_too_long_for_its_length_field_is_refused():
    with pytest.raises(ValueError, match="65535 bytes, got 65536"):
        HEADER.info(task="x" * 65536, argument="a")


@given(
    st.one_of(
        st.text(),
        st.text(f"bps1.{ALPHABET}="),
        st.text(f"{ALPHABET}.=+/\n\u00e9").map("bps1.0123456789abcdef.".__add__),
        st.none(),
        st.integers(),
        st.binary(),
        st.lists(st.text()),
    )
)
@example("bps1.")
@example("bps1.0123456789abcdef.")
@example("bps2.0123456789abcdef.AAAA")
@example("bps1.0123456789abcdef." + "A" * 10_001)
def test_whatever_is_given_parses_canonically_or_is_refused_without_showing_it(text):
    try:
        token = parse(text)
    except SealError as error:
        assert str(error).startswith(WHERE)  # noqa: PT017 - either outcome is right
    else:
        assert token.text() == text


@given(tokens, st.data())
def test_no_other_text_means_the_same_token(token, data):
    text = token.text()
    position = data.draw(st.integers(0, len(text) - 1))
    altered = text[:position] + data.draw(st.sampled_from(ALPHABET)) + text[position + 1 :]
    try:
        assert (parse(altered) == token) is (altered == text)
    except SealError:
        assert altered != text


@pytest.mark.parametrize("value", ["hunter2-hunter2", b"hunter2-hunter2", 5, None, ["x"]])
def test_value_that_is_no_token_is_named_by_its_type_only(value):
    with pytest.raises(NotSealed) as caught:
        parse(value)
    expected = f"{WHERE}: expected a token made by seal(), got a plain {type(value).__name__}"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (TOKEN.text().replace("bps1", "bps2"), "version"),
        (TOKEN.text() + "=", "characters"),
        (TOKEN.text() + "\n", "characters"),
        (TOKEN.text()[:-1] + "N", "cut or altered"),  # bits behind the last byte
        (TOKEN.text()[:60], "cut or altered"),
        (TOKEN.text().replace(".AQ", ".Ag"), "flags"),
    ],
)
def test_a_damaged_token_is_refused_with_its_reason(text, why):
    with pytest.raises(DamagedToken, match=why) as caught:
        parse(text)
    assert text[24:50] not in str(caught.value)


@given(st.binary(min_size=48, max_size=80), st.binary(min_size=48, max_size=80))
def test_the_use_id_depends_on_the_encapsulated_key_alone(one, two):
    same = Token(HEADER, one).use_id == Token(HEADER, two).use_id
    assert same is (one[:32] == two[:32])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (Header("0" * 16, 0, single_use=True), "is for single use and never expires"),
        (Header("0" * 16, 2**64 - 1, single_use=False), "expires in more than ten years"),
        (Header("0" * 16, int(time.time()) + 2 * MAX_EXPIRY_SECONDS, single_use=True), "ten years"),
    ],
)
def test_a_token_that_seal_would_never_make_is_refused(header, reason):
    with pytest.raises(DamagedToken, match=reason):
        parse(Token(header, bytes(60)).text())


def test_a_token_larger_than_any_secrets_is_refused_before_it_is_decoded(monkeypatch):
    largest = Token(Header("0" * 16, 0, single_use=False), bytes(48 + MAX_SECRET_BYTES))
    assert parse(largest.text()) == largest
    monkeypatch.setattr(token_text, "_decode", None)
    with pytest.raises(DamagedToken, match="larger than that of any secret"):
        parse(largest.text() + "A")
