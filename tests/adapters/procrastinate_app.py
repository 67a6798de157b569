"""Tasks for `procrastinate --app=procrastinate_app.app worker`, below one decorator.

Procrastinate keeps no results, so these note their own in Redis.
"""

import functools
import os
import pickle

import retried  # beside this module, as the command finds it
from procrastinate import App, PsycopgConnector, RetryStrategy
from redis import Redis

import bufpool_workers as bp

bp.configure()
redis = Redis.from_url(os.environ["TEST_BROKER_URL"])
app = App(connector=PsycopgConnector(conninfo=os.environ["TEST_POSTGRES_URL"]))
kept = []


def noted(function):
    """Note what a task returns or raises."""

    @functools.wraps(function)
    async def run(context, **arguments):
        outcome = None
        try:
            outcome = await function(context, **arguments)
        except Exception as error:
            outcome = error
            raise
        finally:
            redis.set(f"outcome {context.job.id}", pickle.dumps(outcome))

    return run


@app.task(pass_context=True)
@noted
@bp.as_job
@bp.pooled_buffer("4KiB")
async def work(context, number, *, buf):
    """Use a buffer."""
    buf[0:1] = bytes([number])
    return buf[0]


@app.task
@bp.as_job
def keep():
    """Keep a buffer; not in a coroutine, but in a thread of the worker."""
    kept.append(bp.buffer("4KiB"))


@app.task(pass_context=True)
@noted
@bp.as_job
@bp.sealed("password")
async def login(context, user, password):
    """Use a sealed argument."""
    return [user, len(password), bytes(password[:3]) == b"cor"]


@app.task(pass_context=True, retry=RetryStrategy(retry_exceptions=[ConnectionError]))
@noted
@bp.as_job(job_id=lambda context: context.job.id)
@bp.sealed("password")
async def login_at_last(context, user, password):
    """Succeed at the third try."""
    redis.hincrby("noted", f"tries {user}", 1)
    return retried.log_in(redis, user, password)


@app.task(pass_context=True)
@noted
@bp.as_job(job_id=lambda context: context.job.id)
@bp.sealed_result
@bp.sealed("password")
async def mint(context, password):
    """Return a secret."""
    return bytes(password)
