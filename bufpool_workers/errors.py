"""What this package raises.

Every error is a `BufpoolError`, which is never raised itself; errors about a value that was given
are also `ValueError`. Plain misuse of a buffer raises what Python's own buffer types raise:
`BufferError` while views are alive, `ValueError` after release.
"""


class BufpoolError(Exception):
    """The base of all errors of this package; never raised itself."""


class SettingsError(BufpoolError, ValueError):
    """One or more `bufpool_*` settings are wrong; the text lists every one of them."""


class PoolClosed(BufpoolError, ValueError):
    """A buffer was asked of a pool that has been closed."""


class LimitExceeded(BufpoolError, ValueError):
    """A buffer was refused: larger than `bufpool_max_buffer_bytes`, or the pool is at its cap."""


class SecureLevelUnmet(BufpoolError):
    """Secure memory can't be had at the level that `bufpool_secure_level` demands."""
