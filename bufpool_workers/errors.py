"""The errors that this package raises.

Every error is a `BufpoolError`, which is never raised itself; errors about a value that was given
are also `ValueError`. Plain misuse of a buffer raises what Python's own buffer types raise:
`BufferError` while views are alive, `ValueError` after release.
"""

from typing import ClassVar, Final

UNSEAL_FAILURES: Final = (
    *("expired", "replayed", "damaged", "not_sealed", "wrong_task", "unknown_key"),
    *("store_away", "key_file", "other"),
)
"""The reasons of errors of sealing."""

REFUSALS: Final = frozenset({"replayed", "damaged", "not_sealed", "wrong_task"})
"""Those of them for which somebody altered, moved or repeated a token, or sent a plain secret."""


class BufpoolError(Exception):
    """The base of all errors of this package; never raised itself."""


class SettingsError(BufpoolError, ValueError):
    """One or more `bufpool_*` settings are wrong; the text lists every one of them."""


class PoolClosed(BufpoolError, ValueError):
    """A buffer was asked of a pool that has been closed."""


class LimitExceeded(BufpoolError, ValueError):
    """A buffer was refused: larger than `bufpool_max_buffer_bytes`, or the pool is at its cap."""


class SecureLevelUnmet(BufpoolError):
    """Secure memory is not available at the level that `bufpool_secure_level` demands."""


class SealError(BufpoolError, ValueError):
    """The base of all errors of sealing and opening; never raised itself, never shows content."""

    reason: ClassVar[str] = "other"
    """The label in `bufpool_unseal_failures_total`."""


class NotSealed(SealError):
    """A sealed argument got something other than a token of `seal`."""

    reason = "not_sealed"


class DamagedToken(SealError):
    """The text begins like a token but does not have a token's layout."""

    reason = "damaged"


class TokenExpired(SealError):
    """The token's expiry has passed on this machine's clock."""

    reason = "expired"


class TokenReplayed(SealError):
    """A single-use token was opened before, by another task."""

    reason = "replayed"


class ReplayStoreError(SealError):
    """A single-use token could not be checked, so it was not opened."""

    reason = "store_away"


class UnknownKey(SealError):
    """The token was sealed to a key that this process does not hold."""

    reason = "unknown_key"


class OpenFailed(SealError):
    """The token was sealed for another task or argument, or was altered on its way."""

    reason = "wrong_task"


class KeyFileError(SealError):
    """A key or a file of keys is missing, readable by others, or not a key."""

    reason = "key_file"


class MetricsError(BufpoolError):
    """The metrics directory is missing, full or not writable, or the endpoint can't be served."""
