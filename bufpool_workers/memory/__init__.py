"""Memory pools: slabs, buffers and their counters. Knows nothing of Celery or Prometheus."""

from bufpool_workers.memory._core import (
    FIELDS,
    Buffer,
    attribute,
    buffer,
    random_buffer,
    secure_buffer,
)
from bufpool_workers.memory.pools import (
    BufferPool,
    Pools,
    PoolsStats,
    PoolStats,
    Warmth,
    begin_task,
    configure,
    current_pools,
    stats,
)

__all__ = [
    "FIELDS",
    "Buffer",
    "BufferPool",
    "PoolStats",
    "Pools",
    "PoolsStats",
    "Warmth",
    "attribute",
    "begin_task",
    "buffer",
    "configure",
    "current_pools",
    "random_buffer",
    "secure_buffer",
    "stats",
]
