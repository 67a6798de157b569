"""A user's app, which passes mypy's strict mode and pyright's."""

from typing import assert_type

from celery import Celery, Task, shared_task

import bufpool_workers as bp
from bufpool_workers import KiB

app = Celery("shop")
bp.setup(app)


@shared_task
@bp.pooled_buffer(64 * KiB)
def digest(path: str, *, buf: bp.Buffer) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        size = file.readinto(buf)
    return bytes(buf[:size]).hex()


def row_size(width: int) -> int:
    return width * 4


@shared_task
@bp.pooled_buffer(row_size, name="row", kind="random")
@bp.sealed("password")
def login(width: int, password: bp.Buffer, *, row: bp.Buffer) -> bool:
    return password == row


@shared_task(bind=True)
@bp.sealed("pin")
def check(self: Task[..., object], pin: bp.Buffer) -> int:
    return len(pin) + self.request.retries


@shared_task
@bp.sealed_result
def mint(user: str, days: int = 1) -> bytes:
    return f"{user}{days}".encode()


@bp.pooled_buffer("4KiB")
async def fetch(url: str, *, buf: bp.Buffer) -> float:
    return len(buf) / len(url)


@bp.as_job
@bp.pooled_buffer("4KiB")
async def fetch_later(url: str, *, buf: bp.Buffer) -> int:
    return len(buf)


@bp.as_job(job_id=row_size)
def count(width: int) -> str:
    return str(width)


async def use() -> None:
    token = bp.seal(b"x", task=login, argument="password", expires=60)
    assert_type(digest("a"), str)
    assert_type(digest.delay("a").get(), str)
    assert_type(login(4, password=token), bool)
    assert_type(mint("ada", days=2), bytes)
    mint.delay("ada")
    assert_type(await fetch("http://127.0.0.1"), float)
    assert_type(await fetch_later("http://127.0.0.1"), int)
    assert_type(count(1), str)
    assert_type(bp.as_job(len).name, str)
    with bp.secure_buffer(32) as key, bp.buffer("1MiB") as big:
        big[:32] = key
