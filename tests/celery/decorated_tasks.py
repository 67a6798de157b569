"""Tasks under `pooled_buffer`, in every form that a Celery task takes."""

import hashlib
from typing import Any

from celery import Task, shared_task
from pydantic import BaseModel

import bufpool_workers as bp
from bufpool_workers import KiB

_attempts: dict[str, int] = {}


def _digest(buf: bp.Buffer, text: str) -> str:
    content = text.encode()
    buf[: len(content)] = content
    return hashlib.sha256(buf[: len(content)]).hexdigest()


@shared_task
@bp.pooled_buffer(4 * KiB)
def plain(text: str, *, buf: bp.Buffer) -> str:
    return _digest(buf, text)


@shared_task(bind=True)
@bp.pooled_buffer(4 * KiB)
def bound(self: Task, text: str, *, buf: bp.Buffer) -> list[str]:
    return [self.name, _digest(buf, text)]


class Text(BaseModel):
    text: str
    times: int = 1


class Digest(BaseModel):
    digest: str


@shared_task(pydantic=True)
@bp.pooled_buffer(4 * KiB)
def validated(order: Text, *, buf: bp.Buffer) -> Digest:
    return Digest(digest=_digest(buf, order.text * order.times))


@shared_task(
    autoretry_for=(LookupError,), max_retries=2, retry_backoff=False, default_retry_delay=0
)
@bp.pooled_buffer(4 * KiB)
def retried_by_celery(key: str, failures: int, *, buf: bp.Buffer) -> list[Any]:
    return _succeed_after(failures, key, buf)


@shared_task(bind=True, max_retries=2)
@bp.pooled_buffer(4 * KiB)
def retried_by_itself(self: Task, key: str, failures: int, *, buf: bp.Buffer) -> list[Any]:
    try:
        return _succeed_after(failures, key, buf)
    except LookupError as error:
        raise self.retry(exc=error, countdown=0) from error


def _succeed_after(failures: int, key: str, buf: bp.Buffer) -> list[Any]:
    _attempts[key] = _attempts.get(key, 0) + 1
    if _attempts[key] <= failures:
        raise LookupError(f"attempt {_attempts[key]}")
    return [_attempts[key], _digest(buf, key)]


@shared_task
@bp.pooled_buffer("4KiB", name="source")
@bp.pooled_buffer(2 * KiB, name="key", kind="secure")
@bp.pooled_buffer(32, name="nonce", kind="random")
def stacked(*, source: bp.Buffer, key: bp.Buffer, nonce: bp.Buffer) -> list[Any]:
    zeroed = not any(bytes(key))
    return [[b.kind for b in (source, key, nonce)], [len(b) for b in (source, key, nonce)], zeroed]


@shared_task
@bp.pooled_buffer(lambda blocks, block_size=512, **_: blocks * block_size)
def sized(blocks: int, block_size: int = 512, *, buf: bp.Buffer) -> list[int]:
    return [blocks * block_size, len(buf), buf.capacity]


@shared_task
@bp.pooled_buffer(4 * KiB)
def runs_eager(text: str, *, buf: bp.Buffer) -> list[Any]:
    buf[:4] = b"mine"
    inner = plain.apply(args=[text]).result
    return [inner, bytes(buf[:4]) == b"mine", bp.stats().regular.in_use]


@shared_task
@bp.pooled_buffer(4 * KiB)
def joined(parts: list[str], *, buf: bp.Buffer) -> str:
    return _digest(buf, "".join(parts))


@shared_task
def in_use() -> int:
    return bp.stats().total.in_use
