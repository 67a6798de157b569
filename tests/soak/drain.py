"""The end of the load: waiting for every task, and telling who lost those that never ended."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.soak.load import Producer

_DRAIN_SECONDS = 90
_ON_THE_WAY_SECONDS = 2  # from one of the broker's lists to the other, by way of a main process
_ROUNDS = 5


class Drained(NamedTuple):
    """Which tasks had not ended when the broker had none left.

    `vanished` never began and were sent again; `lost` began, or did not come back by that.
    """

    vanished: list[str]
    lost: list[str]


def drain(
    producer: "Producer", *, waiting: Callable[[], int], supervise: Callable[[], None]
) -> Drained:
    """Wait until the broker has nothing left; then send again what has vanished.

    Celery's transport takes a message from the queue and notes that it has it in two steps: a node
    or a broker that is killed in between takes the message along. Its producer sends it again.
    """

    def wait_dry() -> None:
        wet = time.monotonic()

        def is_dry() -> bool:
            nonlocal wet
            supervise()
            if waiting():
                wet = time.monotonic()
            return time.monotonic() - wet > _ON_THE_WAY_SECONDS

        wait_until(is_dry, what="the end of what was sent", timeout_seconds=_DRAIN_SECONDS)

    wait_dry()
    missing = producer.missing()
    begun = {task_id for task_id in missing if producer.task_log.starts[task_id]}
    vanished = [task_id for task_id in missing if task_id not in begun]
    for _ in range(_ROUNDS):
        left = set(producer.missing()) - begun
        if not left:
            break
        for task_id in left:
            producer.send(*producer.sent[task_id], task_id=task_id)
        wait_dry()
    return Drained(vanished, sorted(begun | set(producer.missing())))
