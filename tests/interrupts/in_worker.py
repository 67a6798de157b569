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
    """Interrupt that many tasks of one child at random moments, then look at its numbers."""
    dice, outcome = random.Random(seed), Outcome()
    arguments = ("--concurrency=1",)
    with CeleryWorker(
        "plugin_app:app", broker=broker, folder=_TASKS, log=folder / "log", arguments=arguments
    ) as worker:
        child = worker.run("pool_tasks.numbers")["pid"]
        while outcome.interrupts < interrupts:
            running = [
                worker.client.send_task(
                    "pool_tasks.spin", (_NBYTES,), soft_time_limit=dice.uniform(*_LIMITS)
                )
                for _ in range(_ROUND)
            ]
            for pending in running:
                ended = pending.get(propagate=False, timeout=30)
                outcome.interrupts += isinstance(ended, SoftTimeLimitExceeded)
        found = worker.run("pool_tasks.numbers")
    if found["pid"] != child:
        raise ChildProcessError(f"child {child} was replaced by {found['pid']} in the storm")
    for kind in ("regular", "secure", "random"):
        numbers = found[kind]
        outcome.lost += numbers["in_use"]
        outcome.miscounted += abs(numbers["gets"] - numbers["hits"] - numbers["misses"])
    return outcome
