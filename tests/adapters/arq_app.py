"""Jobs for `arq arq_app.WorkerSettings`, below one decorator: there is no adapter for arq."""

import os

import retried  # beside this module, as the command finds it
from arq import Retry
from arq.connections import RedisSettings
from redis import Redis

import bufpool_workers as bp

bp.configure()
redis = Redis.from_url(os.environ["TEST_BROKER_URL"])
kept = []


@bp.as_job
@bp.pooled_buffer("4KiB")
async def work(ctx, number, *, buf):
    """Use a buffer."""
    buf[0:1] = bytes([number])
    return buf[0]


@bp.as_job
async def keep(ctx):
    """Keep a buffer."""
    kept.append(bp.buffer("4KiB"))


@bp.as_job
@bp.sealed("password")
async def login(ctx, user, password):
    """Use a sealed argument."""
    return [user, len(password), bytes(password[:3]) == b"cor"]


@bp.as_job(job_id=lambda ctx: ctx["job_id"])
@bp.sealed("password")
async def login_at_last(ctx, user, password):
    """Succeed at the third try."""
    redis.hincrby("noted", f"tries {user}", 1)
    try:
        return retried.log_in(redis, user, password)
    except ConnectionError:
        raise Retry(0.1) from None


@bp.as_job(job_id=lambda ctx: ctx["job_id"])
@bp.sealed_result
@bp.sealed("password")
async def mint(ctx, password):
    """Return a secret."""
    return bytes(password)


class WorkerSettings:
    """What the command reads."""

    functions = (work, keep, login, login_at_last, mint)
    redis_settings = RedisSettings.from_dsn(os.environ["TEST_BROKER_URL"])
