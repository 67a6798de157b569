"""A Huey for `huey_consumer huey_app.huey`, with tasks that note what they did in Redis."""

import json
import os
import signal
import time

from prometheus_client import Counter

RUNS = Counter("shop_runs", "Tasks that ran.")  # before setup, on purpose

import retried  # noqa: E402
from huey import RedisHuey  # noqa: E402

import bufpool_workers as bp  # noqa: E402
from bufpool_workers.huey import setup  # noqa: E402

huey = RedisHuey("shop", url=os.environ["TEST_BROKER_URL"])
setup(huey, json.loads(os.environ["TEST_WORKER_SETTINGS"]))
redis = huey.storage.conn
kept = []


def note(**numbers):
    """Add up in Redis what the tasks do themselves."""
    RUNS.inc()
    for name, number in numbers.items():
        redis.hincrby("noted", name, number)


@huey.task()
@bp.pooled_buffer("64KiB", name="one")
@bp.pooled_buffer("64KiB", name="two")
def work(number, *, one, two):
    one[:8] = two[:8] = number.to_bytes(8, "big")
    note(gets=2, runs=1)
    return int.from_bytes(one[:8], "big")


@huey.task()
def keep():
    kept[:] = [bp.secure_buffer(100)]
    note(gets=1, reclaims=1, runs=1)
    return True


@huey.task()
def fail():
    with bp.buffer("4KiB"):
        note(gets=1, runs=1)
        raise LookupError("on purpose")


@huey.task()
def die():
    with bp.buffer("4KiB"):
        note(gets=1, killed=1, runs=1)
        os.kill(os.getpid(), signal.SIGKILL)


@huey.task(timeout=1)
def spin():
    while True:
        with bp.buffer("4KiB"), bp.secure_buffer(64):
            bp.random_buffer(32).release()
            time.sleep(0)


@huey.task()
def numbers():
    return {"pid": os.getpid(), "in_use": bp.stats().total.in_use}


@huey.task(retries=3)
@bp.sealed("password")
def login(user, password):
    note(logins=1, runs=1)
    return [user, len(password), bytes(password[:3]) == b"cor"]


@huey.task(retries=5)
@bp.sealed("password")
def login_at_last(user, password):
    note(**{f"tries {user}": 1}, runs=1)
    return retried.log_in(redis, user, password)


@huey.task(retries=3)
@bp.sealed_result
@bp.sealed("password")
@bp.pooled_buffer("64KiB")
def mint(password, tries=1, *, buf):
    note(mints=1, runs=1)
    return retried.mint(redis, password, tries, buf)
