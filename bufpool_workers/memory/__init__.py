"""Memory pools: slabs, buffers and their counters. Knows nothing of Celery or Prometheus."""

from bufpool_workers.memory._core import (
    LEVELS,
    Buffer,
    BufferPool,
    bind_gauges,
    buffer,
    grants_memfd,
    leave,
    on_escape,
    random_buffer,
    reachable_level,
    secure_buffer,
    secure_level,
    secure_locked_bytes,
)
from bufpool_workers.memory.pools import (
    Pools,
    begin_task,
    close_current_pools,
    configure,
    current_pools,
    stats,
)
from bufpool_workers.memory.protection import lock_limit, secure_warm_bytes, unmet
from bufpool_workers.stats import FIELDS, PoolsStats, PoolStats, Warmth

__all__ = [
    "FIELDS",
    "LEVELS",
    "Buffer",
    "BufferPool",
    "PoolStats",
    "Pools",
    "PoolsStats",
    "Warmth",
    "begin_task",
    "bind_gauges",
    "buffer",
    "close_current_pools",
    "configure",
    "current_pools",
    "grants_memfd",
    "leave",
    "lock_limit",
    "on_escape",
    "random_buffer",
    "reachable_level",
    "secure_buffer",
    "secure_level",
    "secure_locked_bytes",
    "secure_warm_bytes",
    "stats",
    "unmet",
]
