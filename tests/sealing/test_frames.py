"""No frame of an exception holds what opens a token: error trackers send frames away."""

import inspect
import signal

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.errors import OpenFailed
from bufpool_workers.runtime import Job, current_runtime
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


def interrupted(use, *, most_seconds, times=2500):
    """Yield the exceptions of interrupts at many moments of `use`."""
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for number in range(times):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + number % 200 * most_seconds / 200)
                use()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Strike as error:
                yield error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


dropped_buffers = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize(
    ("loading", "struck"),
    [
        pytest.param(False, {"open_into", "_cipher_and_nonce"}, marks=dropped_buffers),
        pytest.param(True, {"_parse_private"}, marks=dropped_buffers),
    ],
    ids=["unseal", "load and unseal"],
)
def test_an_interrupt_at_any_moment_leaves_no_key_behind(key, token, attacker, loading, struck):
    held = Keyring([key[0]])

    def use():
        (Keyring([key[0]]) if loading else held).unseal(token, **BOUND).release()

    functions, found = set(), []
    for error in interrupted(use, most_seconds=6e-4 if loading else 2e-4):
        functions |= {frame.f_code.co_name for frame in frames_of(error)}
        found += attacker.found(shown_by(error))
    assert found == []
    assert functions >= struck


def test_an_interrupt_while_a_result_is_sealed_leaves_it_in_no_frame(key, attacker):
    testing.configure(
        bp.Settings(private_keys=(str(key[0]),), result_public_keys=(key[1],), public_key=key[1])
    )
    job = Job(id="1", name="shop.mint")

    @bp.sealed_result
    def mint():
        return SECRET.decode()  # in no frame but those of the package

    job.function = inspect.unwrap(mint)
    runtime = current_runtime()
    runtime.begin_job(job)

    def use():
        job.is_replying = False
        mint()

    try:
        use()
        functions, found = set(), []
        for error in interrupted(use, most_seconds=5e-4):
            functions |= {frame.f_code.co_name for frame in frames_of(error)}
            found += attacker.found(shown_by(error))
    finally:
        runtime.end_job(job)
        testing.reset()
    assert found == []
    assert functions >= {"seal_result", "seal", "_cipher_and_nonce"}
