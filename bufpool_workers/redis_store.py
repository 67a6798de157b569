"""The store of used single-use tokens in a Redis, for every host that has one."""

from __future__ import annotations

from typing import Any

from redis import Redis, RedisError

from bufpool_workers.errors import ReplayStoreError

_CONNECT_SECONDS = 5


def connect(url: str) -> Redis:
    """Return a client of the Redis of a URL; it connects at its first use."""
    seconds = _CONNECT_SECONDS
    client: Redis = Redis.from_url(url, socket_connect_timeout=seconds, socket_timeout=seconds)
    return client


def note_use(client: Any, key: str, holder: str, seconds: int) -> bool:
    """Note a use under a key; return True for the first holder, whenever that one asks.

    That is SET with NX (https://redis.io/commands/set). Raises ReplayStoreError if Redis can't be
    asked.
    """
    try:
        if client.set(key, holder, nx=True, ex=seconds):
            return True
        noted = client.get(key)
    except (RedisError, OSError) as error:
        raise unavailable(error) from None
    return noted in {holder, holder.encode()}


def unavailable(error: Exception) -> ReplayStoreError:
    """Return the error for a Redis that could not be asked."""
    kind = type(error).__name__
    return ReplayStoreError(
        f"a single-use token stays closed, since Redis could not be asked ({kind})"
    )
