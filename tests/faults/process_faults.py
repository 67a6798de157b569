"""Deaths of processes, and a broker that is away: each fault with what a deployment does after."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from celery.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError

from bufpool_workers import MiB
from tests.faults.node import Node
from tests.support.waiting import wait_until


class Fault(NamedTuple):
    """A name, and what hits a node and then brings it back as its deployment would."""

    name: str
    hit: Callable[[Node], None]
    is_long: bool = False

    def parameters(self, *others: object) -> pytest.ParameterSet:
        """The parameters of its test, after the others."""
        marks = [pytest.mark.long] if self.is_long else []
        return pytest.param(*others, self, id=self.name.replace(" ", "-"), marks=marks)


def child_killed(node: Node) -> None:
    held, pid = node.hold()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerLostError):
        node.worker.result(held)


def fattest_killed(node: Node) -> None:
    """Kill the process with the highest score, as the kernel's OOM killer does."""
    held, pid = node.hold(size=100 * MiB)
    scores = {
        member: int(Path(f"/proc/{member}/oom_score").read_text())
        for member in node.worker.members()
    }
    fattest = max(scores, key=lambda member: scores[member])
    assert fattest == pid
    os.kill(fattest, signal.SIGKILL)
    with pytest.raises(WorkerLostError):
        node.worker.result(held)


def hard_limit(node: Node) -> None:
    held, _ = node.hold(time_limit=1)
    with pytest.raises(TimeLimitExceeded):
        node.worker.result(held)


def revoked(node: Node) -> None:
    held, _ = node.hold()
    held.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        node.worker.result(held)


def main_killed(node: Node) -> None:
    node.hold()
    node.worker.send_signal(signal.SIGKILL)
    node.wait_for_end()
    node.start()


def warm_shutdown(node: Node) -> None:
    held, pid = node.hold()
    node.worker.send_signal(signal.SIGTERM)
    wait_until(node.shutting_down.exists, what="the shutdown's begin")
    node.release()
    assert node.worker.result(held) == pid
    node.wait_for_end()
    node.start()


def cold_shutdown(node: Node) -> None:
    node.hold()
    # Celery shuts down in the signal's handler: inside of reading a child's message, which that
    # child waits for, it waits for the child
    wait_until(
        lambda: [task["acknowledged"] for task in node.worker.inspect("active")] == [True],
        what="the task's receipt",
    )
    node.worker.send_signal(signal.SIGQUIT)
    node.wait_for_end()
    node.start()


def redis_restarted(node: Node) -> None:
    held, pid = node.hold()
    # kombu 5.7 ends the worker when it can't give back what it has not acknowledged yet
    wait_until(lambda: not node.unacknowledged(), what="the task's acknowledgement")
    node.redis.restart()
    node.worker.wait_ready()
    node.release()
    # what is told between a client's look at the results and its subscription to those to come, as
    # it connects again, reaches it never (celery.backends.redis: _reconnect_pubsub): so it asks
    wait_until(held.ready, what="the result", timeout_seconds=60)
    assert node.worker.result(held) == pid


def redis_paused(node: Node) -> None:
    held, pid = node.hold()
    os.kill(node.redis.pid, signal.SIGSTOP)
    try:
        node.release()
        assert node.totals() == node.truth()  # the scrape needs no broker
    finally:
        os.kill(node.redis.pid, signal.SIGCONT)
    assert node.worker.result(held) == pid


PROCESS_FAULTS = (
    Fault("a child killed in its task", child_killed),
    Fault("the fattest process killed", fattest_killed, is_long=True),
    Fault("a hard time limit", hard_limit),
    Fault("a task revoked with terminate", revoked),
    Fault("main killed", main_killed),
    Fault("a warm shutdown", warm_shutdown),
    Fault("a cold shutdown", cold_shutdown),
    Fault("Redis restarted", redis_restarted),
    Fault("Redis paused", redis_paused),
)
