"""Pooled, warm, leak-proof buffers for Celery workers."""

from bufpool_workers.celery.plugin import setup
from bufpool_workers.decorators import pooled_buffer, sealed
from bufpool_workers.errors import (
    BufpoolError,
    DamagedToken,
    KeyFileError,
    LimitExceeded,
    NotSealed,
    OpenFailed,
    PoolClosed,
    ReplayStoreError,
    SealError,
    SecureLevelUnmet,
    SettingsError,
    TokenExpired,
    TokenReplayed,
    UnknownKey,
)
from bufpool_workers.memory import (
    Buffer,
    BufferPool,
    Pools,
    PoolsStats,
    PoolStats,
    buffer,
    current_pools,
    random_buffer,
    secure_buffer,
    stats,
)
from bufpool_workers.sealing import Keyring, generate_key, seal
from bufpool_workers.settings import Settings
from bufpool_workers.units import GiB, KiB, MiB

__all__ = [  # noqa: RUF022 - in reading order
    # wiring
    "setup",
    "pooled_buffer",
    # buffers anywhere
    "buffer",
    "secure_buffer",
    "random_buffer",
    "Buffer",
    # pools and their numbers
    "current_pools",
    "stats",
    "Pools",
    "BufferPool",
    "PoolStats",
    "PoolsStats",
    "Settings",
    # sealed arguments
    "sealed",
    "seal",
    "Keyring",
    "generate_key",
    # sizes
    "KiB",
    "MiB",
    "GiB",
    # errors
    "BufpoolError",
    "LimitExceeded",
    "SecureLevelUnmet",
    "PoolClosed",
    "SettingsError",
    # errors of sealing
    "SealError",
    "NotSealed",
    "DamagedToken",
    "OpenFailed",
    "TokenExpired",
    "TokenReplayed",
    "ReplayStoreError",
    "UnknownKey",
    "KeyFileError",
]
