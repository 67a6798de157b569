"""The store of used single-use tokens: the Redis of an app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from bufpool_workers import redis_store
from bufpool_workers.errors import ReplayStoreError

_CONNECT_SECONDS = 5


def note_use(app: Celery, key: str, holder: str, seconds: int) -> bool:
    """Note a use in the app's result backend if that is Redis, else in its broker.

    Return True for the first holder of the key, whenever that one asks. Raises ReplayStoreError if
    Redis can't be asked.
    """
    try:
        with _redis(app) as (client, prefix):
            if client is None:
                raise ReplayStoreError(
                    "single-use tokens need Redis as result backend or as broker, or one that "
                    "bufpool_single_use_url names"
                )
            return redis_store.note_use(client, prefix + key, holder, seconds)
    except (RedisError, OperationalError, OSError) as error:
        raise redis_store.unavailable(error) from None


def has_store(app: Celery) -> bool:
    """Return whether the app's result backend or its broker is a Redis; connects to neither."""
    if isinstance(app.backend, RedisBackend):
        return True
    with app.connection_for_write() as connection:
        return _is_redis(connection)


def _is_redis(connection: Any) -> bool:
    return bool(connection.get_transport_cls().driver_type == "redis")


@contextmanager
def _redis(app: Celery) -> Iterator[tuple[Redis | None, str]]:
    """Lend a client with the app's own connection settings, TLS and Sentinel included.

    With it comes the prefix of the app's keys there, to which an access list may confine them.
    """
    if isinstance(app.backend, RedisBackend):
        # what Celery put before its own prefix, by rules of its own
        prefix = app.backend.task_keyprefix.removesuffix(RedisBackend.task_keyprefix.encode())
        yield app.backend.client, prefix.decode()
        return
    with app.connection_for_write() as connection:
        if not _is_redis(connection):
            yield None, ""
            return
        # Without these bounds kombu would try again and again before it says no. It takes brokers
        # that fail over in turn, each once.
        brokers = max(len(connection.alt), 1)
        connection.ensure_connection(max_retries=brokers, timeout=_CONNECT_SECONDS)
        channel = connection.default_channel
        # kombu's own client puts the prefix before the keys of some commands only
        yield Redis(connection_pool=channel.client.connection_pool), channel.global_keyprefix
