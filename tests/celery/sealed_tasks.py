"""Tasks with a password: one that takes it plain, one that takes it sealed."""

import hashlib
import os
from pathlib import Path

from celery import shared_task

import bufpool_workers as bp


def _check(password, *, gate, fail):
    """Use a password as long as the gate, a named pipe, is not opened for writing."""
    digest = hashlib.sha256(password).hexdigest()
    if gate:
        Path(gate).read_bytes()
    if fail:
        raise RuntimeError("the body failed")
    return digest, os.getpid()


@shared_task
def plain(user, password, *, gate=None, fail=False):
    return _check(password.encode(), gate=gate, fail=fail)


@shared_task
@bp.sealed("password")
def sealed(user, password, *, gate=None, fail=False):
    return _check(password, gate=gate, fail=fail)


@shared_task(bind=True, max_retries=3)
@bp.sealed("password")
def retried(self, password, *, times):
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return bytes(password).decode(), self.request.retries


@shared_task(autoretry_for=(Exception,), max_retries=3, default_retry_delay=0)
@bp.sealed("password")
def stubborn(password):
    return bytes(password).decode()


@shared_task(bind=True)
@bp.pooled_buffer("4KiB")
@bp.sealed("pin", "password")
def both(self, password, pin, *, buf):
    return [self.name, bytes(password).decode(), bytes(pin).decode(), len(buf)]


@shared_task
def answer(value):
    return value


@shared_task
@bp.sealed("password")
def after(result, password):
    return [result, bytes(password).decode()]


@shared_task
def secure_in_use():
    return bp.stats().secure.in_use


@shared_task(bind=True, max_retries=2)
@bp.sealed_result
@bp.pooled_buffer(16, kind="secure")
@bp.sealed("password")
def mint(self, password, *, buf, returns="buffer", retries=0):
    if self.request.retries < retries:
        raise self.retry(countdown=0)
    buf[:] = password[:16]
    return {"buffer": buf, "text": bytes(buf).decode(), "dict": {"secret": "zebra"}}[returns]


@shared_task
@bp.sealed("password")
def echo_plain(password):
    return bytes(password).decode()


@shared_task
@bp.sealed_result
@bp.sealed("password")
def echo_sealed(password):
    return password


@shared_task
def install(tokens):
    """Open what one task or several have minted, as a link and as a chord's body."""
    opened = []
    for token in [tokens] if isinstance(tokens, str) else tokens:
        header = bp.sealing.ResultToken.parse(token).header
        with bp.unseal_result(token, task=mint, task_id=header.task_id) as secret:
            opened.append(hashlib.sha256(secret).hexdigest())
    return opened


@shared_task
def stuck(gate):
    Path(gate).read_bytes()


@shared_task
@bp.sealed("password")
def notify(request, error, traceback, password, marker):
    Path(marker).write_text(f"{os.getpid()} {len(password)}")
