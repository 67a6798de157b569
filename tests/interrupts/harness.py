"""Real signals that raise at random moments, as soft time limits do, and what they leave."""

import gc
import logging
import random
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Protocol

from billiard.exceptions import SoftTimeLimitExceeded
from celery.utils.dispatch import signal as dispatch

_RAISING = 0.9
_STUCK_SECONDS = 30
_TRIALS = 200


class Pool(Protocol):
    """What a storm goes over: something that lends buffers, and its users."""

    def use(self) -> None:
        """Take a buffer, write to it, look whether the content stayed, give it back."""

    def use_again(self) -> None:
        """The same in short, from inside a signal handler."""

    @property
    def shared(self) -> int:
        """The number of uses that found another's bytes in their buffer."""

    def out(self) -> int:
        """Buffers that the pool does not have although nobody uses it."""

    def miscounted(self) -> int:
        """By how much the pool's own numbers are wrong while nobody uses it."""

    def drain(self) -> list[Any]:
        """All buffers that it would lend now without making any."""


@dataclass
class Outcome:
    """What a storm did. `places` are the bytecodes that an exception was raised at."""

    interrupts: int = 0
    lost: int = 0
    doubled: int = 0
    miscounted: int = 0
    places: set[tuple[CodeType, int]] = field(default_factory=set)

    @property
    def clean(self) -> bool:
        """True if nothing was lost, lent twice or miscounted."""
        return not (self.lost or self.doubled or self.miscounted)


class Storm:
    """Interrupts the main thread by SIGALRM, one exception for each time it is armed.

    Nine signals in ten raise; the tenth uses the pool itself in the midst of whatever was going
    on, as a handler may, and lets that go on.
    """

    def __init__(self, pool: Pool, *, seed: int = 1) -> None:
        self._pool = pool
        self._dice = random.Random(seed)
        self._armed = False
        self._outcome = Outcome()

    def run(self, interrupts: int) -> Outcome:
        """Storm until `interrupts` exceptions were raised, then audit the pool.

        Raises TimeoutError when no signal comes for half a minute.
        """
        outcome = self._outcome = Outcome()
        with quiet():
            self._storm(interrupts)
            gc.collect()
            outcome.lost = self._pool.out()
            outcome.miscounted = self._pool.miscounted()
            outcome.doubled = self._pool.shared + _twice(self._pool.drain())
        return outcome

    def _storm(self, interrupts: int) -> None:
        longest = 3 * self._seconds_of_use()
        before = signal.signal(signal.SIGALRM, self._strike)
        try:
            while self._outcome.interrupts < interrupts:
                self._until_struck(longest)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _until_struck(self, longest: float) -> None:
        with suppress(SoftTimeLimitExceeded):
            self._use_until_struck(longest)

    def _use_until_struck(self, longest: float) -> None:
        # a function of its own: Python 3.13 leaves the end of a loop out of the `try` around it
        use, last = self._pool.use, time.monotonic() + _STUCK_SECONDS
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, self._dice.uniform(1e-6, longest))
        while self._armed:  # it may have been swallowed: by a finalizer, by Celery's tracer
            use()
            if time.monotonic() > last:
                raise TimeoutError(f"no signal within {_STUCK_SECONDS} s")

    def _strike(self, _number: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        if self._dice.random() >= _RAISING or _keeps_a_lock(frame):
            self._pool.use_again()
            signal.setitimer(signal.ITIMER_REAL, 1e-5)
            return
        self._armed = False
        self._outcome.interrupts += 1
        if frame is not None:
            self._outcome.places.add((frame.f_code, frame.f_lasti))
        raise SoftTimeLimitExceeded

    def _seconds_of_use(self) -> float:
        began = time.perf_counter()
        for _ in range(_TRIALS):
            self._pool.use()
        return (time.perf_counter() - began) / _TRIALS


def _keeps_a_lock(frame: FrameType | None) -> bool:
    """Return True if an exception here may leave another's lock locked for ever.

    From Python 3.14 on one can strike between the `__enter__` of a `with` and its body.
    """
    celerys = frame is not None and frame.f_code.co_filename == dispatch.__file__
    return celerys and sys.version_info >= (3, 14)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep all that is said of interrupted uses off the terminal."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # raised in a finalizer
    logging.disable()  # Celery's tracer says of each that it was raised
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # an interrupted use drops its buffer
            warnings.simplefilter("ignore", RuntimeWarning)  # Celery's, for errors in its tracer
            yield
    finally:
        logging.disable(logging.NOTSET)
        sys.unraisablehook = hook


def _twice(buffers: list[Any]) -> int:
    for number, buffer in enumerate(buffers):
        buffer[:4] = number.to_bytes(4, "big")
    return sum(bytes(buffer[:4]) != n.to_bytes(4, "big") for n, buffer in enumerate(buffers))
