"""`bufpool_tune_malloc`: have glibc's malloc keep large blocks instead of unmapping them.

By default glibc maps blocks above a threshold (128 KiB, rising with what is freed) and gives free
memory at the heap's end back, so that tasks which hold several large blocks fault every page in
again. See mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys

from bufpool_workers.errors import SettingsError

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

# the most that glibc accepts on 64 bits, DEFAULT_MMAP_THRESHOLD_MAX
MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024
# as glibc itself keeps the two
TRIM_THRESHOLD_BYTES = 2 * MMAP_THRESHOLD_BYTES


def check() -> None:
    """Raise SettingsError where there is no glibc to tune."""
    # of the C libraries only glibc has this name
    if not sys.platform.startswith("linux") or not hasattr(_c_library(), "gnu_get_libc_version"):
        raise SettingsError(
            "bufpool_tune_malloc = True: it needs glibc's mallopt, which this system "
            f"({sys.platform}) lacks; remove the setting"
        )


def tune() -> None:
    """Set both thresholds for the whole process, for good; again does no harm.

    From then on blocks below 32 MiB come from the heap, of which up to 64 MiB stay with the
    process when they are free. Raises SettingsError as `check` does, and OSError when glibc
    refuses.
    """
    check()
    mallopt = _c_library().mallopt
    for name, option, nbytes in (
        ("M_MMAP_THRESHOLD", _M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES),
        ("M_TRIM_THRESHOLD", _M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
    ):
        if not mallopt(option, nbytes):
            raise OSError(f"bufpool_tune_malloc: glibc refused {name} = {nbytes}")


def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
