"""The jobs that the workers of other job systems are measured with; they time their own bodies."""

import os
import time
from collections.abc import Callable

import dramatiq
import numpy as np
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import bufpool_workers as bp
from bufpool_workers.dramatiq import BufpoolMiddleware

MIB = 1 << 20

broker = RedisBroker(url=os.environ.get("TEST_BROKER_URL", "redis://127.0.0.1:1"))
broker.add_middleware(Results(backend=RedisBackend(client=broker.client)))
if os.environ.get("BENCHMARK_POOLED"):
    broker.add_middleware(BufpoolMiddleware())
dramatiq.set_broker(broker)


@bp.pooled_buffer(MIB, name="one")
@bp.pooled_buffer(MIB, name="two")
def fill_pooled(*, one: bp.Buffer, two: bp.Buffer) -> None:
    for buffer in (one, two):
        np.frombuffer(buffer, np.uint8).fill(1)


def fill_bytearrays() -> None:
    one, two = bytearray(MIB), bytearray(MIB)
    for array in (one, two):
        np.frombuffer(array, np.uint8).fill(1)


def _timed(body: Callable[[], None]) -> float:
    began = time.thread_time_ns()
    body()
    return (time.thread_time_ns() - began) / 1e9


def pooled() -> float:
    """Fill two arrays in buffers; return the seconds that the body took."""
    return _timed(fill_pooled)


def bytearrays() -> float:
    """Fill two bytearrays; return the seconds that the body took."""
    return _timed(fill_bytearrays)


ACTORS = {
    "pooled": dramatiq.actor(pooled, store_results=True),
    "bytearrays": dramatiq.actor(bytearrays, store_results=True),
}
