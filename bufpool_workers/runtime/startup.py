"""The checks of a worker's start that every host shares: keys, malloc, secure memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from bufpool_workers import memory
from bufpool_workers.diagnostics.capacity import check_locking, is_below, level_when_warm
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.limits import Process
from bufpool_workers.errors import BufpoolError, SettingsError
from bufpool_workers.settings import Settings

logger = logging.getLogger(__name__)


@contextmanager
def errors_as_exit(*, when: bool = True) -> Iterator[None]:
    """End a worker with the line of an error that its user can mend, and no traceback.

    `when` is False in other processes, whose code may handle the error.
    """
    try:
        yield
    except BufpoolError as error:
        if not when:
            raise
        raise SystemExit(f"Error: {error}") from None


def check(settings: Settings) -> None:
    """Check that this process can do what its settings ask for; log what it can't quite do.

    Raises KeyFileError for a key that can't be used, and SettingsError for the rest.
    """
    private = settings.private_keys + settings.result_private_keys
    public = settings.result_public_keys
    if settings.public_key is not None:
        public = (settings.public_key, *public)
    if private or public:
        from bufpool_workers.sealing.keys import check_private, check_public  # noqa: PLC0415 - cryptography

        for key in public:
            check_public(key)
        for path in private:
            check_private(path)
    if settings.tune_malloc:
        from bufpool_workers.runtime import malloc  # noqa: PLC0415 - ctypes

        malloc.check()
    report(check_secure_memory(settings))


def warn_of_warm_levels(settings: Settings, *, instead: str) -> None:
    """Warn of warm levels that someone has set, where each job has a process of its own."""
    if settings.warm["regular"] != Settings().warm["regular"]:
        logger.warning(
            "bufpool: bufpool_warm names regular buffers, which are not made: each job of this "
            "worker has a process of its own, in which a pool costs more than it saves; take %s",
            instead,
        )


def report(findings: Iterable[Finding]) -> None:
    """Log warnings; raise SettingsError for an error."""
    for finding in findings:
        if finding.severity == "error":
            raise SettingsError(str(finding))
        if finding.severity == "warning":
            logger.warning("bufpool: %s", finding)


def check_secure_memory(settings: Settings) -> Iterator[Finding]:
    """Log the level of protection that secure memory gets here; yield what stands against it."""
    level = level_when_warm(settings)
    facts = Process.of()
    if not is_below(level, settings.secure_level):
        logger.info(
            "bufpool: secure memory at level %s, RLIMIT_MEMLOCK is %s", level, memory.lock_limit()
        )
    yield from check_locking(
        settings, level=level, soft_limit=facts.memlock_bytes, may_lock_any=facts.may_lock_any
    )
