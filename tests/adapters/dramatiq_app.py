"""A broker for `dramatiq dramatiq_app`, with actors that note what they did in Redis."""

import asyncio
import json
import os
import time

import dramatiq
import retried  # beside this module, as the command finds it
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, GroupCallbacks, default_middleware
from dramatiq.middleware.prometheus import Prometheus
from dramatiq.middleware.threading import is_gevent_active
from dramatiq.rate_limits.backends import RedisBackend as RateLimits
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import bufpool_workers as bp
from bufpool_workers.dramatiq import BufpoolMiddleware

URL = os.environ["TEST_BROKER_URL"]
broker = RedisBroker(url=URL, middleware=[m() for m in default_middleware])
redis = broker.client
broker.add_middleware(Results(backend=RedisBackend(client=redis)))
if not is_gevent_active():
    broker.add_middleware(AsyncIO())
broker.add_middleware(GroupCallbacks(RateLimits(client=redis)))
broker.add_middleware(BufpoolMiddleware(json.loads(os.environ.get("TEST_WORKER_SETTINGS", "{}"))))
if os.environ.get("TEST_DRAMATIQ_PROMETHEUS"):
    broker.add_middleware(Prometheus())
dramatiq.set_broker(broker)

kept = []


def note(**numbers):
    """Add up in Redis what the actors do themselves."""
    for name, number in numbers.items():
        redis.hincrby("noted", name, number)


@dramatiq.actor(store_results=True)
def pid():
    return os.getpid()


@dramatiq.actor(store_results=True)
@bp.pooled_buffer("64KiB", name="one")
@bp.pooled_buffer("64KiB", name="two")
def work(number, *, one, two):
    one[:8] = two[:8] = number.to_bytes(8, "big")
    note(gets=2, jobs=1)
    return int.from_bytes(one[:8], "big")


@dramatiq.actor(max_retries=0)
def fail():
    with bp.buffer("4KiB"):
        note(gets=1, jobs=1)
        raise LookupError("on purpose")


@dramatiq.actor(store_results=True)
def keep():
    kept[:] = [bp.secure_buffer(100)]
    note(gets=1, reclaims=1, jobs=1)


@dramatiq.actor(time_limit=200, max_retries=0)
def spin():
    switches = is_gevent_active()  # its time limit strikes where a greenlet waits
    while True:
        with bp.buffer("4KiB"), bp.secure_buffer(64):
            bp.random_buffer(32).release()
            if switches:
                time.sleep(0)


@dramatiq.actor(store_results=True)
def numbers():
    stats = bp.stats().total
    return {"pid": os.getpid(), "in_use": stats.in_use, "gets": stats.gets, "puts": stats.puts}


@dramatiq.actor(store_results=True, max_retries=3, min_backoff=1)
@bp.sealed("password")
def login(user, password):
    note(logins=1)
    return [user, len(password), bytes(password[:3]) == b"cor"]


@dramatiq.actor(store_results=True, max_retries=5, min_backoff=1)
@bp.sealed("password")
def login_at_last(user, password):
    note(**{f"tries {user}": 1})
    return retried.log_in(redis, user, password)


@dramatiq.actor(store_results=True)
def give(value=None):
    return value


class Session(dramatiq.GenericActor):
    """An actor that is a class."""

    class Meta:
        actor_name = "session"
        store_results = True

    @bp.sealed("password")
    def perform(self, user, password):
        return [user, len(password)]


@dramatiq.actor(store_results=True, max_retries=3, min_backoff=1)
@bp.sealed_result
@bp.sealed("password")
@bp.pooled_buffer("64KiB")
def mint(password, tries=1, *, buf):
    note(mints=1)
    return retried.mint(redis, password, tries, buf)


@dramatiq.actor(store_results=True)
@bp.sealed_result
@bp.sealed("password")
@bp.pooled_buffer("64KiB", kind="secure")
async def mint_later(password, *, buf):
    await asyncio.sleep(0)
    buf[: len(password)] = password
    return bytes(buf[: len(password)])


@dramatiq.actor
@bp.sealed_result
def mint_for_nobody():
    note(ignored=1)
    return "nobody's"
