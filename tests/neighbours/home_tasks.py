"""What a user's tasks do in each worker, whoever its neighbour is."""

import hashlib
import os
from typing import Any

from celery import chain, shared_task
from prometheus_client import Counter, Histogram

import bufpool_workers as bp

LOGINS = Counter("shop_logins", "Logins that were tried", ["user"])
SIZES = Histogram("shop_password_bytes", "Lengths of passwords", buckets=(1, 100))
_kept: list[bp.Buffer] = []


def _digest(user: str, password: bp.Buffer) -> str:
    LOGINS.labels(user).inc()
    SIZES.observe(len(password))
    return hashlib.sha256(password).hexdigest()


@shared_task
@bp.sealed("password")
@bp.pooled_buffer(4096)
def login(user, password, *, buf):
    return _digest(user, password)


@shared_task(bind=True, autoretry_for=(LookupError,), max_retries=1, default_retry_delay=0)
@bp.pooled_buffer(4096)
@bp.sealed("password")
def login_at_second_try(self, password, user, *, buf):
    found = _digest(user, password)
    if not self.request.retries:
        raise LookupError("on purpose")
    return found


@shared_task
@bp.sealed("password")
def fail(password):
    kept_by_the_traceback = memoryview(password)
    kept_by_the_traceback.release()
    raise RuntimeError("on purpose")


@shared_task
def keep_buffer():
    _kept.append(bp.buffer(4096))


@shared_task
def publish_plain():
    """Try every way to publish a plain secret; return the ways that were not refused."""
    plain = os.environ["TEST_PLAIN"]
    ways: dict[str, Any] = {
        "delay": lambda: login.delay("ada", plain),
        "by keyword": lambda: login.delay("ada", password=plain),
        "first parameter": lambda: login_at_second_try.delay(plain, "ada"),
        "by name": lambda: login.app.send_task("home_tasks.login", ("ada", plain)),
        "chain": lambda: chain(publish_plain.si(), login.s("ada", plain)).delay(),
        "link": lambda: publish_plain.apply_async(link=login.si("ada", plain)),
    }
    published = []
    for name, publish in ways.items():
        try:
            publish()
        except bp.NotSealed:
            continue
        published.append(name)
    return published
