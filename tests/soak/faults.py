"""What is done to the nodes, their broker and their directories while they work."""

import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import psutil

from tests.soak.broker import DurableRedis
from tests.soak.load import Producer
from tests.soak.worker_node import Node
from tests.support.waiting import wait_until

NAMES = (
    "child killed",
    "main killed",
    "node restarted",
    "child stopped",
    "main stopped",
    "Redis paused",
    "Redis killed",
    "task revoked",
    "tmpfs full",
)
TMPFS_BYTES = 8 * 1024 * 1024
_PAUSE_SECONDS = 1.0
_BEGUN = r"buffers, .* warm (in|when)"
_LINGER = {"seconds": 6.0}


class Faults:
    """Chooses a fault at random and undoes it; `log` has the time and name of each."""

    def __init__(  # noqa: PLR0913 - all but the first by keyword
        self,
        nodes: list[Node],
        *,
        redis: DurableRedis,
        producer: Producer,
        only: Collection[str],
        seed: int,
        began: float,
    ) -> None:
        self._nodes, self._redis, self._producer = nodes, redis, producer
        self._dice = random.Random(seed)
        self._began = began
        self.log: list[tuple[float, str]] = []
        kinds: dict[str, Callable[[Node], None]] = {
            "child killed": self._kill_child,
            "main killed": self._kill_main,
            "node restarted": self._restart,
            "child stopped": self._stop_child,
            "main stopped": self._stop_main,
            "Redis paused": self._pause_redis,
            "Redis killed": self._kill_redis,
            "task revoked": self._revoke,
            "tmpfs full": self._fill,
        }
        self._kinds = {name: kinds[name] for name in only}
        self._next: list[str] = []

    @property
    def counts(self) -> Counter[str]:
        """The number of each that was done."""
        return Counter(name for _, name in self.log)

    def inject(self) -> None:
        """Do one; each kind comes once before any comes again."""
        for node in self._nodes:
            node.wait_for_children()
        if not self._next:
            self._next = self._dice.sample(list(self._kinds), len(self._kinds))
        name = self._next.pop()
        self.log.append((time.monotonic() - self._began, name))
        self._kinds[name](self._dice.choice(self._nodes))

    def _kill_child(self, node: Node) -> None:
        child = self._dice.choice(node.children())
        with suppress(psutil.NoSuchProcess):  # as below
            child.kill()
        self._replaced(node, child)

    def _replaced(self, node: Node, child: psutil.Process) -> None:
        wait_until(lambda: not child.is_running() or child not in node.children(), what="its end")
        node.wait_for_children()

    def _kill_main(self, node: Node) -> None:
        node.worker.send_signal(signal.SIGKILL)
        node.worker.wait()
        node.restart()

    def _restart(self, node: Node) -> None:
        node.stop()
        node.restart()

    def _stop_child(self, node: Node) -> None:
        child = self._dice.choice(node.children())
        with suppress(psutil.NoSuchProcess):  # a time limit or its main's end may have killed it
            child.suspend()
            time.sleep(_PAUSE_SECONDS)
            child.resume()

    def _stop_main(self, node: Node) -> None:
        node.worker.send_signal(signal.SIGSTOP)
        time.sleep(_PAUSE_SECONDS)
        node.worker.send_signal(signal.SIGCONT)

    def _pause_redis(self, _node: Node) -> None:
        self._redis.pause()
        time.sleep(_PAUSE_SECONDS)
        self._redis.resume()

    def _kill_redis(self, _node: Node) -> None:
        self._redis.restart()

    def _revoke(self, _node: Node) -> None:
        task_id = self._producer.send("linger", (_LINGER, {}))
        self._producer.revoked.add(task_id)
        time.sleep(self._dice.random())
        self._producer.app.control.revoke(task_id, terminate=True)

    def _fill(self, node: Node) -> None:
        """Start a process while it can have no file, unless a merge makes room just then."""
        filler = node.metrics / "filler"
        try:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            before = len(re.findall(_BEGUN, node.worker.log()))
            self._kill_child(node)
            node.worker.wait_for_log(_BEGUN, count=before + 1)
        finally:
            filler.unlink()


def mount_tmpfs(folder: Path) -> str | None:
    """Mount a small tmpfs there; gives the reason where that is not allowed."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", folder],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr.strip()


def unmount(folder: Path) -> None:
    """Take it away again."""
    subprocess.run(["umount", folder], check=True)  # noqa: S607
