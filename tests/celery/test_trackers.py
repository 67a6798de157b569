"""Error trackers send the locals of every frame: none of them opens a token or shows a secret."""

import pytest

import bufpool_workers as bp
from bufpool_workers.sealing import Token
from tests.support.attacker import Attacker
from tests.support.waiting import wait_until

SECRET = b"correct horse battery staple"
BOUND = {"task": "tracked_app.login", "argument": "password"}
TRACKERS = ("sentry", "sentry, everything", "rollbar", "rollbar, everything")
INTERRUPTS = 1250  # for each tracker


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "worker.key"
    return path, bp.generate_key(path)


class Tracked:
    """A worker with an error tracker, and what the tracker was given."""

    def __init__(self, worker, payloads):
        self.worker, self._payloads = worker, payloads
        self._seen = 0

    def fails(self, *tokens, error, **options):
        """Send each token to a task that has to fail with this error."""
        sent = [self.worker.send("tracked_app.login", token, **options) for token in tokens]
        for result in sent:
            with pytest.raises(error):
                self.worker.result(result)

    def new(self, number):
        """Return the given number of payloads, which the tracker was given since the last time."""
        seen, self._seen = self._seen, self._seen + number

        def payloads():
            lines = (
                self._payloads.read_text("utf-8").splitlines() if self._payloads.exists() else []
            )
            return len(lines) >= self._seen and lines

        lines = wait_until(payloads, what=f"{self._seen} payloads")
        assert len(lines) == self._seen
        return lines[seen:]


@pytest.fixture(params=TRACKERS)
def tracked(request, start_worker, redis_server, key, tmp_path):
    payloads = tmp_path / "payloads"
    worker = start_worker(
        "tracked_app:app",
        broker=redis_server.celery_url(),
        arguments=["--concurrency=1"],
        settings={
            "bufpool_private_keys": [str(key[0])],
            "test_tracker": request.param,
            "test_payloads": str(payloads),
        },
    )
    return Tracked(worker, payloads)


@pytest.mark.timeout(300)
def test_an_error_tracker_is_sent_nothing_that_opens_a_token(tracked, key):
    token = bp.seal(SECRET, **BOUND, public_key=key[1])
    attacker = Attacker(token, key_file=key[0], secret=SECRET, **BOUND)

    # a body that fails
    tracked.fails(token, error=RuntimeError, fail=True)
    (payload,) = tracked.new(1)
    assert "no login with 28 bytes" in payload
    assert attacker.found(payload) == []

    # any bit flipped
    parsed = Token.parse(token, where="")
    altered = []
    for bit in range(8 * len(parsed.sealed)):
        sealed = bytearray(parsed.sealed)
        sealed[bit // 8] ^= 1 << bit % 8
        altered.append(parsed._replace(sealed=bytes(sealed)).text())
    tracked.fails(*altered, error=bp.OpenFailed)
    for payload in tracked.new(len(altered)):
        assert "OpenFailed" in payload
        assert attacker.found(payload) == []

    # soft time limits at any moment
    run, keys = tracked.worker.run, [str(key[0])]
    struck = set()
    for _ in range(4):
        struck |= set(run("tracked_app.interrupt", token, (INTERRUPTS - 250) // 4))
    struck |= set(run("tracked_app.interrupt", token, 250, keys=keys))
    assert struck >= {"unseal", "open_into", "_cipher_and_nonce", "_parse_private"}
    for payload in tracked.new(INTERRUPTS):
        assert "SoftTimeLimitExceeded" in payload
        assert attacker.found(payload) == []
