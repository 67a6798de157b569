"""Pooled, warm, leak-proof buffers for worker processes, Celery's first.

Importing the package loads nothing else: each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from bufpool_workers import _lazy

if TYPE_CHECKING:
    from bufpool_workers._version import __version__
    from bufpool_workers.celery.plugin import setup
    from bufpool_workers.decorators import pooled_buffer, sealed, sealed_result
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
    from bufpool_workers.jobs import as_job
    from bufpool_workers.memory import Buffer, BufferPool, Pools
    from bufpool_workers.pool_stats import PoolsStats, PoolStats
    from bufpool_workers.runtime import (
        buffer,
        configure,
        current_pools,
        random_buffer,
        secure_buffer,
        stats,
    )
    from bufpool_workers.runtime.keys import seal
    from bufpool_workers.runtime.results import reply_to, unseal_result
    from bufpool_workers.sealing import Keyring, generate_key
    from bufpool_workers.settings import Settings
    from bufpool_workers.units import GiB, KiB, MiB

__all__ = [  # noqa: RUF022 - in reading order
    "__version__",
    # wiring
    "setup",
    "configure",
    "pooled_buffer",
    "as_job",
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
    # sealed results
    "sealed_result",
    "unseal_result",
    "reply_to",
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

_HOMES = {
    "__version__": "_version",
    "setup": "celery.plugin",
    "configure": "runtime",
    "pooled_buffer": "decorators",
    "sealed": "decorators",
    "sealed_result": "decorators",
    "as_job": "jobs",
    "unseal_result": "runtime.results",
    "reply_to": "runtime.results",
    "buffer": "runtime",
    "secure_buffer": "runtime",
    "random_buffer": "runtime",
    "Buffer": "memory",
    "current_pools": "runtime",
    "stats": "runtime",
    "Pools": "memory",
    "BufferPool": "memory",
    "PoolStats": "pool_stats",
    "PoolsStats": "pool_stats",
    "Settings": "settings",
    "seal": "runtime.keys",
    "Keyring": "sealing",
    "generate_key": "sealing",
    "KiB": "units",
    "MiB": "units",
    "GiB": "units",
}

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {name: f"{__name__}.{_HOMES.get(name, 'errors')}" for name in __all__},
    submodules=("errors", "memory", "metrics", "sealing", "settings", "testing"),
)
