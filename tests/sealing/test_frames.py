"""No frame of an exception holds what opens a token: error trackers send frames away."""

import signal

import pytest

from bufpool_workers.errors import OpenFailed
from bufpool_workers.sealing import Keyring, generate_key, seal

SECRET = b"correct horse battery staple"
BOUND = {"task": "shop.login", "argument": "password"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "worker.key"
    return generate_key(path), Keyring([path])


def reachable_bytes(error):
    """All bytes that the frames of an exception, and of those that it followed from, can reach."""
    seen, found, waiting = set(), [], [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        waiting += [error.__context__, error.__cause__]
        trace = error.__traceback__
        while trace is not None:
            if "bufpool_workers" in trace.tb_frame.f_code.co_filename:
                found += [v for v in trace.tb_frame.f_locals.values() if isinstance(v, bytes)]
            trace = trace.tb_next
    return found


def check(error):
    for value in reachable_bytes(error):
        # keys and shared secrets have 32 bytes, nonces 12; what else is there is in the token
        assert len(value) not in {12, 16, 32}, value
        assert SECRET not in value


def test_a_token_that_does_not_open_leaves_no_key_behind(keys):
    public, keyring = keys
    token = seal(SECRET, public_key=public, **BOUND)
    for at in range(35, len(token) - 1):
        altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(OpenFailed) as caught:
            keyring.unseal(altered, **BOUND)
        assert caught.value.__context__ is None
        check(caught.value)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of buffers that an interrupt drops
def test_an_interrupt_at_any_moment_leaves_no_key_behind(keys):
    class Strike(Exception):
        pass

    def strike(*_):
        raise Strike

    public, keyring = keys
    token = seal(SECRET, public_key=public, **BOUND)
    before, struck = signal.signal(signal.SIGALRM, strike), 0
    try:
        for number in range(5000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + number % 200 * 1e-6)
                opened = keyring.unseal(token, **BOUND)
                signal.setitimer(signal.ITIMER_REAL, 0)
                opened.release()
            except Strike as error:
                struck += 1
                check(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck > 500
