"""The tasks that are told apart: the first of a process and of a directory; the rest are one."""

import json
from collections.abc import Iterable
from typing import Any, Final

from bufpool_workers.counters.catalog import TASK_COUNTERS, TASK_PEAK
from bufpool_workers.counters.format import parse_key

MOST_TASKS: Final = 200
OTHER_TASKS: Final = "(other)"
"""The name under which the tasks count that are not told apart."""

_LABEL: Final = b'{"task": "'
_SPECS: Final = (*TASK_COUNTERS, TASK_PEAK)


def task_of(key: bytes) -> str | None:
    """Return the task that a number of ours is about; None for any other key."""
    if _LABEL not in key:
        return None
    family, _, labels, text = parse_key(key)
    if len(labels) == 1 and any(
        text == spec.help and family.endswith(f"_{spec.suffix}") for spec in _SPECS
    ):
        return labels[0][1]
    return None


def tasks_in(keys: Iterable[bytes]) -> frozenset[str]:
    """Return the tasks that keys are about, but for OTHER_TASKS."""
    return frozenset(task for key in keys if (task := task_of(key))) - {OTHER_TASKS}


def fold_tasks(numbers: dict[bytes, Any]) -> set[bytes]:
    """Move the numbers of all tasks but the first MOST_TASKS to OTHER_TASKS, whose keys it returns.

    `numbers` has a list or tuple for each key. Those of merged files come first, so that a task
    that was told apart stays so.
    """
    kept, others = {OTHER_TASKS}, set()
    for key in list(numbers):
        task = task_of(key)
        if task is None or task in kept:
            continue
        if len(kept) <= MOST_TASKS:
            kept.add(task)
            continue
        family, sample, _, text = parse_key(key)
        other = json.dumps([family, sample, {"task": OTHER_TASKS}, text]).encode()
        moved = numbers.pop(key)
        numbers[other] = [*numbers.get(other, ()), *moved]
        others.add(other)
    return others
