"""Interleaved measuring: every case in a forked process of its own, sampled in turns.

What a process did before changes what its allocator does next: glibc raises its mmap threshold
when a large block is freed, mallopt() lasts for ever. So no two cases share a heap. All are forked
from one parent, with the same modules, hash seed and addresses, and take turns in random order, so
that a noisy neighbour meets all of them alike. The clock is the process's own, of the processor
time that it got, unless a case waits or has threads.
"""

import contextlib
import math
import multiprocessing
import random
import statistics
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

SAMPLE_SECONDS = 0.004
ROUNDS = 25
_START_SECONDS = 300

Sample = Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """A statement to time, in the namespace that `setup` makes in the case's own process."""

    name: str
    statement: str
    setup: Callable[[], Mapping[str, Any]] = dict
    clock: Callable[[], float] = time.process_time


@dataclass(frozen=True)
class Timing:
    """Seconds for one run of a case's statement, one number per round."""

    name: str
    seconds: list[float] = field(repr=False)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratios(self, rival: "Timing") -> "Ratios":
        """Return this time divided by that of `rival`, round by round."""
        return Ratios([a / b for a, b in zip(self.seconds, rival.seconds, strict=True)])


@dataclass(frozen=True)
class Ratios:
    rounds: list[float]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        low, middle, high = statistics.quantiles(self.rounds, n=4)
        return low, middle, high

    @property
    def median_interval(self) -> tuple[float, float]:
        """The bounds of the median with 95 % confidence, from the order of the rounds alone."""
        ordered, n = sorted(self.rounds), len(self.rounds)
        cut = max(0, math.floor(n / 2 - 1.96 * math.sqrt(n) / 2))
        return ordered[cut], ordered[n - 1 - cut]


def measure(
    cases: Sequence[Case], *, rounds: int = ROUNDS, seconds: float = SAMPLE_SECONDS
) -> list[Timing]:
    """Time the cases against each other; gives their timings in the same order."""
    context = multiprocessing.get_context("fork")
    peers = []
    try:
        for case in cases:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(case, theirs, seconds), daemon=True)
            process.start()
            theirs.close()
            peers.append((case, process, ours))
            _receive(case, ours)  # calibrated; one after the other, undisturbed
        times: list[list[float]] = [[] for _ in cases]
        for _ in range(rounds):
            for (case, _process, pipe), taken in random.sample(
                list(zip(peers, times, strict=True)), len(peers)
            ):
                pipe.send(True)
                taken.append(_receive(case, pipe))
    finally:
        for _case, process, pipe in peers:
            with contextlib.suppress(BrokenPipeError):  # it failed, and said so
                pipe.send(False)
            process.join(5)
            process.kill()
            process.join()
            pipe.close()
    return [Timing(case.name, taken) for case, taken in zip(cases, times, strict=True)]


def in_process(function: Callable[[], Any]) -> Any:
    """Return what a function returns in a forked process, whose allocator is as a case's."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(function()), daemon=True)
    process.start()
    theirs.close()
    with ours:
        try:
            if not ours.poll(_START_SECONDS):
                raise TimeoutError(f"no answer in {_START_SECONDS} s")
            return ours.recv()
        except EOFError:
            raise ChildProcessError("the process failed, see above") from None
        finally:
            process.kill()
            process.join()


def in_turns(samplers: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """Sample each once per round, in random order; the first round warms up."""
    samples: dict[str, list[Sample]] = {name: [] for name in samplers}
    for _ in range(rounds + 1):
        for name, sample in random.sample(list(samplers.items()), len(samplers)):
            samples[name].append(sample())
    return {name: taken[1:] for name, taken in samples.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that is not exceeded by `share` (0 to 1) of them."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _receive(case: Case, pipe: Connection) -> float:
    if not pipe.poll(_START_SECONDS):
        raise TimeoutError(f"{case.name}: no answer in {_START_SECONDS} s")
    try:
        return float(pipe.recv())
    except EOFError:
        raise ChildProcessError(f"{case.name}: its process failed, see above") from None


def calibrated(case: Case, seconds: float = SAMPLE_SECONDS) -> Callable[[], float]:
    """A function that takes one sample of the case here, in this process."""
    timer = timeit.Timer(case.statement, timer=case.clock, globals=dict(case.setup()))
    loops, took = 1, timer.timeit(1)  # the first run is the warm-up
    while (took := timer.timeit(loops)) < seconds / 2 and loops < 1 << 24:
        loops = max(2 * loops, min(10 * loops, int(loops * seconds / took)))
    loops = max(1, round(loops * seconds / took))
    return lambda: timer.timeit(loops) / loops


def _serve(case: Case, pipe: Connection, seconds: float) -> None:
    sample = calibrated(case, seconds)
    pipe.send(sample())
    while pipe.recv():
        pipe.send(sample())
