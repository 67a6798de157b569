"""The conditions that need attention: one list for the page, the commands and the alerts.

`deploy/prometheus/rules.yml` says the same of those alerts that this list names; a test compares
them. To add a condition, count it in `pool_stats`, describe it here and write its alert.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bufpool_workers.counters.report import Report
from bufpool_workers.diagnostics.finding import Severity
from bufpool_workers.pool_stats import PoolStats

SHOW_PLACES: Final = (
    "PYTHONWARNINGS=default::ResourceWarning in the worker's environment makes its log name the "
    "task or the place"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A condition that a report counts: how bad it is, and what to do about it.

    `field` names a counter of the pools, or `unwarmed` or `skipped` of the whole node. `title` and
    `advice` are phrases, in which backquotes enclose code. `label` heads the number in a narrow
    line. `alert` is the alert's name in Prometheus.
    """

    field: str
    severity: Severity
    label: str
    title: str
    advice: str
    alert: str

    def count(self, report: Report) -> int:
        """Return how often the report counts it."""
        if self.field == "unwarmed":
            return len(report.processes) - report.warmed_processes
        if self.field == "skipped":
            return len(report.skipped)
        return self.count_in(report.total)

    def count_in(self, numbers: PoolStats) -> int:
        """Return how often a pool counts it; 0 for what only a whole node has."""
        return int(getattr(numbers, self.field, 0))


PROBLEMS: Final = (
    Problem(
        "skipped",
        "warning",
        "skipped",
        "files that can't be read",
        "what they count is missing; remove them, if no process writes them",
        "BufpoolFilesSkipped",
    ),
    Problem(
        "unwarmed",
        "warning",
        "not warm",
        "processes that are not warm",
        "the worker's log says whether the warm-up failed or ran out of bufpool_warm_seconds",
        "BufpoolUnwarmed",
    ),
    Problem(
        "damages",
        "error",
        "damaged",
        "buffers written past their end",
        "their memory is not lent again; look for native code that writes more than `len(buffer)` "
        "bytes, the worker's log says when",
        "BufpoolDamages",
    ),
    Problem(
        "unlocked",
        "warning",
        "unlocked",
        "buffers lent below the best level of protection",
        "raise RLIMIT_MEMLOCK, or demand a level with bufpool_secure_level",
        "BufpoolUnlocked",
    ),
    Problem(
        "limit_hits",
        "warning",
        "at limit",
        "requests that met the cap of their pool",
        "hold fewer buffers at once, or raise bufpool_max_bytes",
        "BufpoolLimit",
    ),
    Problem(
        "escapes",
        "warning",
        "escapes",
        "views that outlived their buffer",
        f"copy what a task keeps of a buffer after its `with`; {SHOW_PLACES}",
        "BufpoolEscapes",
    ),
    Problem(
        "reclaims",
        "warning",
        "reclaims",
        "buffers dropped, or still held when their task ended",
        f"use `with` or pooled_buffer; {SHOW_PLACES}",
        "BufpoolReclaims",
    ),
)


def find_problems(report: Report) -> Iterator[tuple[Problem, int]]:
    """Yield each problem that the report counts, with its number."""
    for problem in PROBLEMS:
        number = problem.count(report)
        if number:
            yield problem, number


def sentence(phrase: str) -> str:
    """Write a title or an advice as a sentence."""
    return f"{phrase[:1].upper()}{phrase[1:]}."
