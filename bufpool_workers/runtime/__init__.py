"""The owner of a process: of its settings, pools, counter file, keys and jobs."""

from bufpool_workers.memory import Pools, PoolsStats, buffer, random_buffer, secure_buffer
from bufpool_workers.runtime.job import Job, current_job
from bufpool_workers.runtime.plain_host import PlainHost, configure
from bufpool_workers.runtime.process import Host, Runtime, current_runtime

__all__ = [  # noqa: RUF022 - grouped by topic
    # the process
    "Runtime",
    "current_runtime",
    "Host",
    "PlainHost",
    "configure",
    # its jobs
    "Job",
    "current_job",
    # its buffers
    "buffer",
    "secure_buffer",
    "random_buffer",
    "current_pools",
    "stats",
]


def current_pools() -> Pools:
    """Return this process's pools; the first use makes them.

    Raises what the settings raise: ImproperlyConfigured under Celery, SettingsError elsewhere.
    """
    return current_runtime().pools


def stats() -> PoolsStats:
    """Return the numbers of this process's pools: short for `current_pools().stats()`."""
    return current_pools().stats()
