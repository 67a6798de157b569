"""What the process of a case is prepared with: warm pools, numpy, another malloc."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import bufpool_workers as bp
from bufpool_workers import KiB, MiB, testing
from bufpool_workers.runtime import malloc
from bufpool_workers.settings import KINDS

Names = Mapping[str, Any]

SIZES = (4 * KiB, 64 * KiB, 256 * KiB, MiB, 4 * MiB, 16 * MiB)

_LENDERS = {"regular": bp.buffer, "secure": bp.secure_buffer, "random": bp.random_buffer}

# the first bytes of all pages, written in one C call that allocates nothing
_TOUCH = "frombuffer({0}, uint8)[::4096] = 1"
_TOUCH_BOTH = f"{_TOUCH.format('first')}; {_TOUCH.format('second')}"


def touched_buffer(nbytes: int) -> str:
    """Take one buffer and write to every page."""
    return f"with buffer({nbytes}) as first: {_TOUCH.format('first')}"


def two_buffers(nbytes: int) -> str:
    """Take two buffers together and write to every page."""
    return f"with buffer({nbytes}) as first, buffer({nbytes}) as second: {_TOUCH_BOTH}"


def two_bytearrays(nbytes: int) -> str:
    """The same with two bytearrays."""
    made = f"first = bytearray({nbytes}); second = bytearray({nbytes})"
    return f"{made}; {_TOUCH_BOTH}; del first, second"


def pools(kind: str = "regular", sizes: Sequence[int] = SIZES) -> Names:
    """This process's pools, with two warm buffers of each size and kind, and how to take them."""
    settings = {
        "bufpool_size_classes": sorted({*bp.Settings().size_classes, *sizes}),
        "bufpool_warm": {each: dict.fromkeys(sizes, 2) if each == kind else {} for each in KINDS},
        "bufpool_max_bytes": {kind: "256MiB"},
    }
    testing.configure(bp.Settings.read(settings))
    current = bp.current_pools()
    if not current.warm(seconds=60).complete:
        raise TimeoutError(f"{kind} pool: not warm after a minute")
    return {"pool": getattr(current, kind), "buffer": _LENDERS[kind], **arrays()}


def arrays() -> Names:
    return {"frombuffer": np.frombuffer, "uint8": np.uint8, "empty": np.empty}


def freed(nbytes: int) -> Names:
    """A process that has freed one block of that size: glibc's thresholds go up with it."""
    block = bytearray(nbytes)
    del block
    return arrays()


def tuned_malloc() -> Names:
    malloc.tune()
    return arrays()
