"""Buffers for secrets, and their wiping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bufpool_workers.memory import Buffer

if TYPE_CHECKING:
    from typing_extensions import Buffer as AnyBuffer

Acquire = Callable[[int], Buffer]


def wipe(buffer: AnyBuffer) -> None:
    """Overwrite a writable, contiguous buffer with zeroes; TypeError if it is read-only."""
    with memoryview(buffer) as view:
        if view.nbytes:
            with view.cast("B") as flat:
                flat[:] = bytes(flat.nbytes)
