"""The app of a worker with an error tracker, which writes what it would send to a file.

The settings name the tracker: one of `TRACKERS`.
"""

import json
import os
import signal
from pathlib import Path

import rollbar
import sentry_sdk
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, signals
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.scrubber import EventScrubber
from sentry_sdk.transport import Transport

import bufpool_workers as bp

TRACKERS = ("sentry", "sentry, everything", "rollbar", "rollbar, everything")

app = Celery("tracked_app")


def keep(payload):
    """Append a payload to the file, as one line."""
    with Path(app.conf.test_payloads).open("a", encoding="utf-8") as file:
        file.write(payload.replace("\n", " ") + "\n")


class ToFile(Transport):
    def capture_envelope(self, envelope):
        keep(envelope.serialize().decode("utf-8", "replace"))


def start_sentry(*, everything):
    options = {}
    if everything:
        options = {
            "event_scrubber": EventScrubber(denylist=[], pii_denylist=[]),
            "send_default_pii": True,
            "max_request_body_size": "always",  # which also lifts the limits on depth and length
            "max_value_length": 100_000,
        }
    sentry_sdk.init(
        dsn="http://public@127.0.0.1:9/1",
        transport=ToFile,
        integrations=[CeleryIntegration()],
        **options,
    )


def start_rollbar(*, everything):
    options = {}
    if everything:
        parts = ("level", "dict", "list", "tuple", "set", "string", "other")
        sizes = dict.fromkeys([f"max{part}" for part in parts], 10_000)
        options = {"locals": {**rollbar.SETTINGS["locals"], "sizes": sizes}}
    rollbar.init("token", "test", handler="blocking", **options)

    def send(payload, **_):
        keep(json.dumps(payload))
        return False  # it goes nowhere else

    rollbar.events.add_payload_handler(send)


def start_tracker(name):
    tracker, *rest = name.split(", ")
    {"sentry": start_sentry, "rollbar": start_rollbar}[tracker](everything=bool(rest))


def report(error):
    if app.conf.test_tracker.startswith("sentry"):
        sentry_sdk.capture_exception(error)
    else:
        rollbar.report_exc_info((type(error), error, error.__traceback__))


@signals.task_failure.connect
def task_failed(exception, **_):
    if app.conf.test_tracker.startswith("rollbar"):  # sentry's integration does it by itself
        report(exception)


@app.task
@bp.sealed("password")
def login(password, *, fail=False):
    if fail:
        raise RuntimeError(f"no login with {len(password)} bytes")


@app.task
def interrupt(token, times, *, keys=()):
    """Be struck by soft time limits at moments of `unseal`, and of reading `keys` before it.

    Return the names of the functions that were struck.
    """
    from bufpool_workers.runtime import current_runtime  # noqa: PLC0415 - for this task alone

    # billiard's own handler of the soft time limit
    before = signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGUSR1))
    struck = set()
    try:
        for number in range(times):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 200) * (4 if keys else 1))
                while True:
                    keyring = bp.Keyring(keys) if keys else current_runtime().keys.private
                    keyring.unseal(token, task=login.name, argument="password").release()
            except SoftTimeLimitExceeded as error:
                report(error)
                trace = error.__traceback__
                while trace is not None:
                    struck.add(trace.tb_frame.f_code.co_name)
                    trace = trace.tb_next
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return sorted(struck)


app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)
start_tracker(app.conf.test_tracker)
