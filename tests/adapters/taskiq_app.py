"""Tasks for `taskiq worker taskiq_app:broker`, below one decorator: taskiq has no adapter."""

import os
from typing import Annotated

import retried  # beside this module, as the command finds it
from redis import Redis
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

import bufpool_workers as bp

bp.configure()
url = os.environ["TEST_BROKER_URL"]
redis = Redis.from_url(url)
broker = (
    ListQueueBroker(url)
    .with_result_backend(RedisAsyncResultBackend(url))
    .with_middlewares(SimpleRetryMiddleware(default_retry_count=5))
)
Running = Annotated[Context, TaskiqDepends()]
kept = []


@broker.task
@bp.as_job
@bp.pooled_buffer("4KiB")
async def work(number: int, *, buf: bp.Buffer) -> int:
    """Use a buffer."""
    buf[0:1] = bytes([number])
    return buf[0]


@broker.task
@bp.as_job
def keep() -> None:
    """Keep a buffer; not in a coroutine, but in a thread of the worker."""
    kept.append(bp.buffer("4KiB"))


@broker.task
@bp.as_job
@bp.sealed("password")
async def login(user: str, password: bp.Buffer) -> list:
    """Use a sealed argument."""
    return [user, len(password), bytes(password[:3]) == b"cor"]


@broker.task(retry_on_error=True)
@bp.as_job(job_id=lambda context: context.message.task_id)
@bp.sealed("password")
async def login_at_last(user: str, password: bp.Buffer, context: Running) -> bool:
    """Succeed at the third try."""
    redis.hincrby("noted", f"tries {user}", 1)
    return retried.log_in(redis, user, password)


@broker.task
@bp.as_job(job_id=lambda context: context.message.task_id)
@bp.sealed_result
@bp.sealed("password")
async def mint(password: bp.Buffer, context: Running) -> bytes:
    """Return a secret."""
    return bytes(password)
