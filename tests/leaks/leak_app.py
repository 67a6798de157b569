"""The worker's side of the leak tests: a credential check in three manners, and all its endings."""

import hashlib
import json
import os
import threading
import time
from pathlib import Path

from celery import Celery, signals

import bufpool_workers as bp

app = Celery("leak_app")
app.conf.update(json.loads(os.environ["TEST_WORKER_SETTINGS"]))
bp.setup(app)

left_over = {}


def read_into(buffer, path):
    """Read a secret without a copy: an unbuffered file reads to where it is told."""
    with Path(path).open("rb", buffering=0) as file:
        assert file.readinto(buffer) == len(buffer)


def check(task, secret, ending):
    digest = hashlib.sha256(secret).hexdigest()
    if ending == "raising":
        raise LookupError("no such user")
    if ending == "retried" and not task.request.retries:
        raise task.retry(countdown=0, max_retries=1)
    if ending.endswith("limited"):
        threading.Event().wait()
    return digest


@app.task(bind=True)
def secure(self, path, ending):
    with bp.secure_buffer(Path(path).stat().st_size) as secret:
        read_into(secret, path)
        return check(self, secret, ending)


@app.task(bind=True)
def wiped(self, path, ending):
    secret = bytearray(Path(path).stat().st_size)
    try:
        read_into(secret, path)
        return check(self, secret, ending)
    finally:
        secret[:] = bytes(len(secret))


@app.task(bind=True)
def plain(self, secret, ending):
    return check(self, secret.encode(), ending)


@app.task
def hold(manner, path, until):
    """Hold a secret until a file appears."""
    size = Path(path).stat().st_size
    secret = bp.secure_buffer(size) if manner == "secure" else bytearray(size)
    read_into(secret, path)
    Path(until + ".held").touch()
    deadline = time.monotonic() + 120
    while not Path(until).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if manner == "secure":
        secret.release()


@app.task
def keep(path, report):
    """Leave a secret in a global variable, viewed, and be stopped."""
    left_over["buffer"] = bp.secure_buffer(Path(path).stat().st_size)
    left_over["view"] = memoryview(left_over["buffer"])
    read_into(left_over["view"], path)
    left_over["report"] = report
    Path(report + ".held").touch()
    threading.Event().wait()


@app.task
def ping():
    return os.getpid()


@signals.worker_process_shutdown.connect  # after setup, so after the pools were closed
def report_left_over(**_):
    if left_over:
        found = "wiped" if not any(left_over["view"]) else "not wiped"
        Path(left_over["report"]).write_text(found)
