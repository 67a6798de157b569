"""Dramatiq: `dramatiq tasks.dramatiq`, with the Redis that BUFPOOL_BROKER_URL names.

Settings come from the environment: BUFPOOL_WARM='{"regular": {"1MiB": 2, "4MiB": 2}}' has what two
threads hold at once.
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import bufpool_workers as bp
from bufpool_workers.dramatiq import BufpoolMiddleware
from tasks.images import PIXELS, SCALED, is_password, scale_into

broker = RedisBroker(url=os.environ.get("BUFPOOL_BROKER_URL", "redis://localhost:6379/0"))
broker.add_middleware(Results(backend=RedisBackend(client=broker.client)))
broker.add_middleware(BufpoolMiddleware())
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
@bp.pooled_buffer(PIXELS, name="raw")
@bp.pooled_buffer(SCALED, name="scaled")
def scale(source: str, factor: float, *, raw: bp.Buffer, scaled: bp.Buffer) -> float:
    """Scale an image; the buffers are lent for this call."""
    return scale_into(source, factor, raw, scaled)


@dramatiq.actor(store_results=True)
@bp.sealed("password")
def login(user: str, salt_hex: str, expected_hex: str, *, password: bp.Buffer) -> str | None:
    """Check a password: `bp.seal(password, task="login", argument="password")`."""
    return user if is_password(password, salt_hex, expected_hex) else None
