"""One run of the soak: two nodes under load and faults, then quiet, then the checks."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

import bufpool_workers as bp
from tests.soak.broker import DurableRedis
from tests.soak.checks import Check, judge, look_at_rest
from tests.soak.drain import drain
from tests.soak.faults import NAMES, Faults, mount_tmpfs, unmount
from tests.soak.load import Producer
from tests.soak.observer import Observer, Series
from tests.soak.task_log import TaskLog
from tests.soak.worker_node import Node

_NAMES = ("north", "south")
_GAP_SECONDS = (1.5, 4.0)
_SETTINGS: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "worker_prefetch_multiplier": 2,
    "worker_max_tasks_per_child": 500,
    "worker_hijack_root_logger": False,
    "broker_connection_max_retries": None,
    # an unacknowledged message of a node that was killed comes again after as many seconds
    "broker_transport_options": {
        "visibility_timeout": 10,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 1000,
    },
    "bufpool_trim_after_seconds": 5,
}


@dataclass
class Outcome:
    """What a run did and what came of it."""

    layout: str
    checks: list[Check]
    numbers: dict[str, int]
    faults: list[tuple[float, str]]
    series: Series
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scenario:
    """How one is run: `layout` is "one directory" or "two directories"."""

    layout: str
    seconds: float
    seed: int
    folder: Path
    began: float
    faults: tuple[str, ...] = NAMES
    ended_before: int = 0

    def run(self) -> Outcome:
        """Run it; what it needs is gone afterwards but for logs, truth and task_log."""
        (self.folder / "truth").mkdir(parents=True)
        key = self.folder / "worker.key"
        public_key = bp.generate_key(key)
        settings = {**_SETTINGS, "bufpool_private_keys": [str(key)]}
        with ExitStack() as stack:
            broker = stack.enter_context(DurableRedis())
            directories, unmountable = stack.enter_context(_directories(self.folder, self.layout))
            nodes = [
                Node(name, broker=broker.url, folder=self.folder, metrics=where, settings=settings)
                for name, where in zip(_NAMES, directories, strict=True)
            ]
            for node in nodes:
                stack.callback(node.close)
            for node in nodes:
                node.wait_ready()
            task_log = TaskLog(self.folder / "task_log")
            producer = Producer(
                broker.url, task_log=task_log, public_key=public_key, seed=self.seed
            )
            stack.callback(producer.close)
            observer = Observer(
                nodes, task_log=task_log, began=self.began, before=self.ended_before
            )
            stack.callback(observer.close)
            faults = Faults(
                nodes,
                redis=broker,
                producer=producer,
                only=[name for name in self.faults if not (name == "tmpfs full" and unmountable)],
                seed=self.seed,
                began=self.began,
            )
            self._disturb(faults)
            producer.stop()
            drained = drain(
                producer, waiting=lambda: _waiting(broker), supervise=lambda: _supervise(nodes)
            )
            observer.close()
            rest = look_at_rest(nodes, self.folder / "truth")
            ends = [node.stop() for node in nodes]
            numbers, checks = judge(
                self.folder,
                nodes,
                producer=producer,
                observer=observer,
                faults=faults.counts,
                drained=drained,
                rest=rest,
                ends=ends,
            )
        remarks = [f"no tmpfs could be mounted: {unmountable}"] if unmountable else []
        return Outcome(self.layout, checks, numbers, faults.log, observer.series, remarks)

    def _disturb(self, faults: Faults) -> None:
        end = time.monotonic() + self.seconds
        dice = random.Random(self.seed)
        while (now := time.monotonic()) < end:
            time.sleep(min(dice.uniform(*_GAP_SECONDS), end - now))
            if time.monotonic() < end:
                faults.inject()


@contextmanager
def _directories(folder: Path, layout: str) -> Iterator[tuple[list[Path], str | None]]:
    names = _NAMES if layout == "two directories" else ("both", "both")
    paths = {name: folder / f"metrics-{name}" for name in names}
    with ExitStack() as stack:
        reason = None
        for path in paths.values():
            path.mkdir()
            reason = mount_tmpfs(path)
            if reason is None:
                stack.callback(unmount, path)
        yield [paths[name] for name in names], reason


def _supervise(nodes: list[Node]) -> None:
    for node in nodes:
        node.supervise()


def _waiting(broker: DurableRedis) -> int:
    """Return the number of messages that wait or are not acknowledged."""
    with redis.Redis(unix_socket_path=str(broker.socket)) as client:
        return int(client.llen("celery")) + int(client.hlen("unacked"))
