"""The storm in a real worker: tasks that use pools until their soft time limit."""

import random
from pathlib import Path

from celery.exceptions import SoftTimeLimitExceeded

from tests.interrupts.harness import Outcome
from tests.support.celery_worker import CeleryWorker

_TASKS = Path(__file__).parents[1] / "celery"
_LIMITS = (0.01, 0.03)  # seconds
_ROUND = 20
_NBYTES = 16 * 1024


def storm(interrupts: int, *, broker: str, folder: Path, seed: int = 1) -> Outcome:
    """Interrupt that many tasks of one child at random moments, then look at its numbers.

    A limit that strikes between two tasks ends Celery's child, with any app. That round counts for
    nothing, and the child that follows is stormed on.
    """
    dice, outcome = random.Random(seed), Outcome()
    arguments = ("--concurrency=1",)
    with CeleryWorker(
        "plugin_app:app", broker=broker, folder=_TASKS, log=folder / "log", arguments=arguments
    ) as worker:
        found = {}
        child = worker.run("pool_tasks.numbers")["pid"]
        while outcome.interrupts < interrupts:
            struck = _round(worker, dice)
            numbers = worker.run("pool_tasks.numbers")
            if numbers["pid"] == child:
                outcome.interrupts += struck
                found[child] = numbers
            child = numbers["pid"]
    for numbers in found.values():
        for kind in ("regular", "secure", "random"):
            counts = numbers[kind]
            outcome.lost += counts["in_use"]
            outcome.miscounted += abs(counts["gets"] - counts["hits"] - counts["misses"])
    return outcome


def _round(worker: CeleryWorker, dice: random.Random) -> int:
    """Run tasks until their soft limits; return how many the limits ended."""
    running = [
        worker.client.send_task(
            "pool_tasks.spin", (_NBYTES,), soft_time_limit=dice.uniform(*_LIMITS)
        )
        for _ in range(_ROUND)
    ]
    ended = [pending.get(propagate=False, timeout=30) for pending in running]
    return sum(isinstance(each, SoftTimeLimitExceeded) for each in ended)
