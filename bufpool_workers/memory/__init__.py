"""Memory pools: slabs, buffers and their counters. Knows nothing of Celery or Prometheus."""

from bufpool_workers.memory._core import (
    Buffer,
    BufferPool,
    buffer,
    leave,
    random_buffer,
    secure_buffer,
)
from bufpool_workers.memory.pools import (
    Pools,
    begin_task,
    close_current_pools,
    configure,
    current_pools,
    stats,
)
from bufpool_workers.memory.stats import FIELDS, PoolsStats, PoolStats, Warmth

__all__ = [
    "FIELDS",
    "Buffer",
    "BufferPool",
    "PoolStats",
    "Pools",
    "PoolsStats",
    "Warmth",
    "begin_task",
    "buffer",
    "close_current_pools",
    "configure",
    "current_pools",
    "leave",
    "random_buffer",
    "secure_buffer",
    "stats",
]
