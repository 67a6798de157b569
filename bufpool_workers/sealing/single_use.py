"""Single use: which tokens were opened, known in Redis until they expire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from bufpool_workers.errors import ReplayStoreError, TokenReplayed
from bufpool_workers.sealing.token import Token

_PREFIX = "bufpool:used:"
# A worker whose clock is late opens a token that Redis, by its own clock, would have forgotten.
_CLOCK_SKEW_SECONDS = 300
_CONNECT_SECONDS = 5


def claim(token: Token, *, where: str, app: Celery, task_id: str) -> None:
    """Mark a token as used by `task_id`; a retry or redelivery of that same task may claim again.

    Uses SET with NX (https://redis.io/commands/set) in the app's result backend if that is Redis,
    else in its broker. Raises TokenReplayed, and ReplayStoreError if Redis can't be asked: what
    can't be checked stays closed.
    """
    key = _PREFIX + token.use_id
    seconds = max(token.header.expires_at - int(time.time()), 0) + _CLOCK_SKEW_SECONDS
    try:
        with _redis(app) as client:
            if client is None:
                raise ReplayStoreError(
                    f"{where}: single-use tokens need Redis as result backend or as broker"
                )
            if client.set(key, task_id, nx=True, ex=seconds):
                return
            holder: Any = client.get(key)
    except (RedisError, OperationalError, OSError) as error:
        kind = type(error).__name__
        raise ReplayStoreError(
            f"{where}: a single-use token stays closed, since Redis could not be asked ({kind})"
        ) from None
    if holder not in (task_id, task_id.encode()):
        raise TokenReplayed(f"{where}: this single-use token was used before, by another task")


@contextmanager
def _redis(app: Celery) -> Iterator[Redis | None]:
    """Lend a client with the app's own connection settings, TLS and Sentinel included."""
    if isinstance(app.backend, RedisBackend):
        yield app.backend.client
        return
    with app.connection_for_write() as connection:
        if connection.transport.driver_type != "redis":
            yield None
            return
        # Without these bounds kombu would try again and again before it says no.
        connection.ensure_connection(max_retries=1, timeout=_CONNECT_SECONDS)
        yield connection.default_channel.client
