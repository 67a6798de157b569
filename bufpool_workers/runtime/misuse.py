"""The log lines of misused buffers: one for each condition, pool and task in ten minutes."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from bufpool_workers.diagnostics.problems import problem_of
from bufpool_workers.units import format_age, format_bytes

logger = logging.getLogger(__name__)

SILENT_SECONDS: Final = 600.0
_MOST_LINES: Final = 1000  # a program may make up names of tasks


@dataclass(slots=True, eq=False, repr=False)
class _Line:
    """A condition of a pool's buffers in a task, and what was counted since it was logged."""

    field: str
    kind: str
    task: str | None
    number: int = 0
    nbytes: int = 0
    place: str = ""
    logged: float = -math.inf


class MisuseLog:
    """Logs the misuse of buffers of one process: the first at once, later ones together.

    The next line of the same condition, pool and task comes ten minutes later at the earliest,
    and has the number of those in between.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # what is collected while it is held may drop a buffer
        self._lines: dict[tuple[str, str, str | None], _Line] = {}
        self._due = math.inf

    def note(  # noqa: PLR0913 - what a line says
        self, field: str, *, kind: str, nbytes: int, number: int, task: str | None, place: str
    ) -> None:
        """Note what the counter `field` counts, and log it if it is time."""
        with self._lock:
            if len(self._lines) >= _MOST_LINES and (field, kind, task) not in self._lines:
                task = None
            line = self._lines.setdefault((field, kind, task), _Line(field, kind, task))
            line.number += number
            line.nbytes = nbytes
            line.place = place.encode("utf-8", "backslashreplace").decode()  # a name of a file
            due = list(self._take([line]))
        _write(due)

    def log_due(self) -> None:
        """Log what was noted in silence and is due by now; for the ends of jobs."""
        if time.monotonic() < self._due:
            return
        with self._lock:
            self._due = math.inf
            due = list(self._take([line for line in self._lines.values() if line.number]))
        _write(due)

    def _take(self, lines: list[_Line]) -> Iterator[_Line]:
        """Yield copies of those that are due, and begin their next ten minutes."""
        now = time.monotonic()
        for line in lines:
            if now < line.logged + SILENT_SECONDS:
                self._due = min(self._due, line.logged + SILENT_SECONDS)
            else:
                yield replace(line)
                line.number, line.logged = 0, now


def _write(lines: list[_Line]) -> None:
    """Log the lines; without the lock, since a thread that logs may wait for one that notes."""
    for line in lines:
        problem = problem_of(line.field)
        seconds = time.monotonic() - line.logged
        logger.warning(
            "%s: %s (%s pool): %d%s%s, %s %s, of %s; %s",
            problem.log_words,
            problem.title,
            line.kind,
            line.number,
            "" if math.isinf(seconds) else f" in the last {format_age(seconds)}",
            f" in task {line.task}" if line.task else "",
            "the last at" if line.number > 1 else "at",
            line.place,
            format_bytes(line.nbytes),
            problem.remedy,
            extra={
                "bufpool": {
                    "event": line.field,
                    "pool": line.kind,
                    "task": line.task,
                    "count": line.number,
                    "place": line.place,
                    "bytes": line.nbytes,
                }
            },
        )
