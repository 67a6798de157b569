"""Waiting for what other processes do: polling, always with a deadline, never a bare sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.02


def wait_until(check: Callable[[], T], *, what: str, timeout_seconds: float = 20) -> T:
    """Return the first true value of `check()`.

    Raises TimeoutError, naming `what`, when there was none until the deadline.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not seen within {timeout_seconds:g} s")
        time.sleep(_POLL_SECONDS)
    return found
