"""The producer: sends mixed tasks as fast as they end, and notes what the broker confirmed."""

import random
import threading
import uuid
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

import bufpool_workers as bp
from bufpool_workers import KiB, MiB
from tests.soak.task_log import TaskLog

_MOST_OPEN = 80
_PACE_SECONDS = 0.02
_SIZES = (2 * KiB, 4 * KiB, 32 * KiB, 64 * KiB, 256 * KiB, MiB)

Call = tuple[dict[str, Any], dict[str, Any]]  # keyword arguments of the task, options


class Producer:
    """A thread that keeps some tasks in the queue until it is closed."""

    def __init__(self, broker: str, *, task_log: TaskLog, public_key: str, seed: int) -> None:
        self.app = Celery("producer", broker=broker, set_as_current=False)
        self.sent: dict[str, tuple[str, Call]] = {}
        self.unconfirmed = 0
        self.revoked: set[str] = set()
        self.task_log, self._public_key = task_log, public_key
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer")
        self._error: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        makers: list[tuple[str, int, Callable[[], Call]]] = [
            ("digest", 30, lambda: ({"sizes": self._dice.choices(_SIZES, k=3)}, {})),
            ("secret", 15, lambda: ({"kind": "secure", "nbytes": 4 * KiB}, {})),
            ("secret", 15, lambda: ({"kind": "random", "nbytes": 4 * KiB}, {})),
            ("login", 10, self._login),
            ("scale", 10, lambda: ({"nbytes": 256 * KiB}, {})),
            ("keep_view", 5, lambda: ({"nbytes": 64 * KiB}, {})),
            ("hold", 5, lambda: ({"nbytes": 8 * KiB}, {})),
            ("fail", 5, lambda: ({"nbytes": 4 * KiB}, {})),
            ("limited", 3, lambda: ({}, {"soft_time_limit": self._dice.uniform(0.01, 0.05)})),
            ("linger", 2, lambda: ({"seconds": 0.5}, {})),
        ]
        weights = [weight for _, weight, _ in makers]
        try:
            while not self._over.wait(_PACE_SECONDS):
                self.task_log.read()
                while len(self.sent) - len(self.task_log.ended) < _MOST_OPEN:
                    name, _, make = self._dice.choices(makers, weights)[0]
                    self.send(name, make())
        except BaseException as error:  # noqa: BLE001 - raised by close()
            self._error = error

    def _login(self) -> Call:
        token = bp.seal(
            bytearray(self._dice.randbytes(5 * KiB)),
            task="tests.soak.soak_tasks.login",
            argument="password",
            public_key=self._public_key,
            expires=3600,
            wipe=True,
        )
        return {"nbytes": 5 * KiB, "password": token}, {}

    def send(self, name: str, call: Call, *, task_id: str | None = None) -> str:
        """Publish. What the broker did not confirm may have arrived, and isn't waited for."""
        task_id = task_id or str(uuid.uuid4())
        kwargs, options = call
        try:
            self.app.send_task(
                f"tests.soak.soak_tasks.{name}", (), kwargs, task_id=task_id, **options
            )
        except OperationalError:
            self.unconfirmed += 1
        else:
            self.sent[task_id] = name, call
        return task_id

    def missing(self) -> list[str]:
        """Tasks that were confirmed, were not revoked and have not ended."""
        self.task_log.read()
        return [i for i in self.sent if i not in self.task_log.ended and i not in self.revoked]

    def stop(self) -> None:
        """Send no more; raises what went wrong while it sent."""
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the connection to the broker."""
        self.stop()
        self.app.close()
