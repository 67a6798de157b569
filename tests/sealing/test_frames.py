"""No frame of an exception holds what opens a token: error trackers send frames away."""

import signal

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bufpool_workers.errors import OpenFailed
from bufpool_workers.sealing import Keyring, generate_key, seal
from tests.support.attacker import Attacker

SECRET = b"correct horse battery staple"
BOUND = {"task": "shop.login", "argument": "password"}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "worker.key"
    return path, generate_key(path)


@pytest.fixture(scope="module")
def token(key):
    return seal(SECRET, public_key=key[1], **BOUND)


@pytest.fixture(scope="module")
def attacker(key, token):
    return Attacker(token, key_file=key[0], secret=SECRET, **BOUND)


def frames_of(error):
    """Return all frames of an exception, and of those that it followed from."""
    seen, frames, waiting = set(), [], [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        waiting += [error.__context__, error.__cause__]
        trace = error.__traceback__
        while trace is not None:
            if "bufpool_workers" in trace.tb_frame.f_code.co_filename:
                frames.append(trace.tb_frame)
            trace = trace.tb_next
    return frames


def shown(value):
    """Return what a local shows, as text: the contents of a view too."""
    try:
        return repr(bytes(value) if isinstance(value, memoryview) else value)
    except (ValueError, AttributeError) as error:  # released; made by half
        return repr(error)


def shown_by(error):
    return "\n".join(
        f"{name} = {shown(value)}"
        for frame in frames_of(error)
        for name, value in frame.f_locals.items()
    )


def test_the_attacker_knows_what_opens_the_token(attacker):
    opened = AESGCM(attacker.known["key"]).decrypt(
        attacker.known["nonce"], attacker.sealed[32:], b""
    )
    assert opened == SECRET


@pytest.mark.parametrize("name", ["key", "nonce", "shared_secret", "secret", "private"])
def test_the_attacker_finds_what_a_frame_shows(attacker, name):
    assert attacker.found(f"shown = {attacker.known[name]!r}") == [name]


def test_a_token_that_does_not_open_leaves_no_key_behind(key, token, attacker):
    keyring = Keyring([key[0]])
    for at in range(35, len(token) - 1):
        altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(OpenFailed) as caught:
            keyring.unseal(altered, **BOUND)
        assert caught.value.__context__ is None
        assert attacker.found(shown_by(caught.value)) == []


class Strike(Exception):
    pass


def strike(*_):
    raise Strike


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of buffers that an interrupt drops
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # or that meets one
@pytest.mark.parametrize("loading", [False, True], ids=["unseal", "load and unseal"])
def test_an_interrupt_at_any_moment_leaves_no_key_behind(key, token, attacker, loading):
    keyring = Keyring([key[0]])
    before, functions, found = signal.signal(signal.SIGALRM, strike), [], []
    try:
        for number in range(2500):
            try:
                signal.setitimer(
                    signal.ITIMER_REAL, 1e-6 + number % 200 * (3e-6 if loading else 1e-6)
                )
                opened = (Keyring([key[0]]) if loading else keyring).unseal(token, **BOUND)
                signal.setitimer(signal.ITIMER_REAL, 0)
                opened.release()
            except Strike as error:
                functions += [frame.f_code.co_name for frame in frames_of(error)]
                found += attacker.found(shown_by(error))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert found == []
    assert functions.count("unseal") > 250 or loading
    assert set(functions) >= ({"_parse_private"} if loading else {"open_into", "_cipher_and_nonce"})
