"""Jobs for RQ's workers, which note what they did in Redis."""

import asyncio
import os
import signal
import sys

import retried  # beside this module, as the command finds it
from prometheus_client import Counter
from redis import Redis

import bufpool_workers as bp

redis = Redis.from_url(os.environ.get("TEST_BROKER_URL", "redis://127.0.0.1:1"))
RUNS = Counter("shop_runs", "Jobs that ran.")
kept = []


def note(**numbers):
    """Add up in Redis what the jobs do themselves."""
    RUNS.inc()
    for name, number in numbers.items():
        redis.hincrby("noted", name, number)


@bp.pooled_buffer("64KiB", name="one")
@bp.pooled_buffer("64KiB", name="two")
def work(number, *, one, two):
    one[:8] = two[:8] = number.to_bytes(8, "big")
    note(gets=2, runs=1)
    return int.from_bytes(one[:8], "big")


def keep():
    kept[:] = [bp.secure_buffer(100), bp.buffer(100)]
    note(gets=2, reclaims=2, runs=1)


def fail():
    with bp.buffer("4KiB"):
        note(gets=1, runs=1)
        raise LookupError("on purpose")


def die():
    """Be killed, with a buffer out; RQ starts another horse for the next job."""
    with bp.buffer("4KiB"):
        note(gets=1, killed=1, runs=1)
        os.kill(os.getpid(), signal.SIGKILL)


def spin():
    # without a note: redis-py 8 may lose the time limit that strikes inside of it (see pool_tasks)
    while True:
        with bp.buffer("4KiB"), bp.secure_buffer(64):
            bp.random_buffer(32).release()


def numbers():
    stats = bp.stats()
    return {
        "pid": os.getpid(),
        "in_use": stats.total.in_use,
        "idle": sum(size.idle for label, size in stats.regular.sizes.items() if "64" in label),
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    }


@bp.sealed("password")
def login(user, password):
    note(logins=1, runs=1)
    return [user, len(password), bytes(password[:3]) == b"cor"]


@bp.sealed("password")
def login_at_last(user, password):
    note(**{f"tries {user}": 1}, runs=1)
    return retried.log_in(redis, user, password)


@bp.sealed_result
@bp.sealed("password")
@bp.pooled_buffer("64KiB")
def mint(password, tries=1, *, buf):
    note(mints=1, runs=1)
    return retried.mint(redis, password, tries, buf)


@bp.sealed_result
@bp.sealed("password")
async def mint_later(password):
    await asyncio.sleep(0)
    return bytes(password)


class Unreadable:
    """An argument that can't be unpickled."""

    def __reduce__(self):
        return (_refuse, ())


def _refuse():
    raise SystemExit("this can't be unpickled")
