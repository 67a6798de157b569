"""Memory pools: slabs, buffers and their counters. Knows nothing of Celery or Prometheus."""

from bufpool_workers.memory._core import (
    Buffer,
    BufferPool,
    TaskTally,
    buffer,
    random_buffer,
    release_on_exit,
    secure_buffer,
)
from bufpool_workers.memory._keystream import load_keystream
from bufpool_workers.memory._mapping import (
    bind_gauges,
    grants_memfd,
    reachable_level,
    secure_level,
    secure_locked_bytes,
)
from bufpool_workers.memory.pools import Pools
from bufpool_workers.memory.protection import level_error, lock_limit, secure_warm_bytes
from bufpool_workers.pool_stats import FIELDS, LEVELS, PoolsStats, PoolStats, WarmupResult

__all__ = [
    "FIELDS",
    "LEVELS",
    "Buffer",
    "BufferPool",
    "PoolStats",
    "Pools",
    "PoolsStats",
    "TaskTally",
    "WarmupResult",
    "bind_gauges",
    "buffer",
    "grants_memfd",
    "level_error",
    "load_keystream",
    "lock_limit",
    "random_buffer",
    "reachable_level",
    "release_on_exit",
    "secure_buffer",
    "secure_level",
    "secure_locked_bytes",
    "secure_warm_bytes",
]
