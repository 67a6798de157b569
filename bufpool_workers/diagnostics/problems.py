"""The conditions that need attention: one list for the log, the page, the commands and the alerts.

`deploy/prometheus/rules.yml` says the same of the alerts that are named here, and its runbook has
a section for each; tests compare them. To add a condition, count it in `pool_stats`, describe it
here, and write its alert and the alert's section.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bufpool_workers._record import record_class
from bufpool_workers.diagnostics.finding import Severity
from bufpool_workers.pool_stats import RAISE_MEMLOCK

if TYPE_CHECKING:
    from bufpool_workers.counters.report import Report
    from bufpool_workers.pool_stats import PoolStats

_LOGGED: Final = frozenset({"escapes", "reclaims", "damages", "unlocked"})


@record_class(frozen=True, kw_only=True, slots=True)
class Condition:
    """A condition that has an alert: how bad it is, and what to do about it.

    `title`, `remedy` and `advice` are phrases, in which backquotes enclose code. `alert` is the
    alert's name in Prometheus.
    """

    severity: Severity
    title: str
    remedy: str
    alert: str

    @property
    def advice(self) -> str:
        """The advice: what to do, and where to look."""
        return self.remedy


@record_class(frozen=True, kw_only=True, slots=True)
class Problem(Condition):
    """A condition that a report counts.

    `field` names a counter of the pools, or `unwarmed`, `skipped` or `refused` of the whole node.
    `label` heads the number in a narrow line.
    """

    field: str
    label: str

    @property
    def is_event(self) -> bool:
        """True if it is counted when it happens; False for what is so as long as it is seen."""
        return self.field not in {"unwarmed", "skipped"}

    @property
    def log_words(self) -> str:
        """The beginning of its lines in the log of the process where it happens."""
        return f"bufpool: {self.field}"

    @property
    def advice(self) -> str:
        """The advice: what to do, and where to look."""
        if self.field in _LOGGED:
            return f"{self.remedy}; the log names task and place in its lines `{self.log_words}`"
        return self.remedy

    def count(self, report: Report) -> int:
        """Return how often the report counts it."""
        if self.field == "unwarmed":
            return len(report.processes) - report.warmed_processes
        if self.field == "skipped":
            return len(report.skipped)
        if self.field == "refused":
            return report.refused
        return self.count_in(report.total)

    def count_in(self, numbers: PoolStats) -> int:
        """Return how often a pool counts it; 0 for what only a whole node has."""
        return int(getattr(numbers, self.field, 0))


PROBLEMS: Final = (
    Problem(
        field="skipped",
        severity="warning",
        label="skipped",
        title="files that can't be read",
        remedy="what they count is missing; remove them, if no process writes them",
        alert="BufpoolFilesSkipped",
    ),
    Problem(
        field="unwarmed",
        severity="warning",
        label="not warm",
        title="processes that are not warm",
        remedy="the log says `warm-up failed`, and why, or that `bufpool_warm_seconds` was over",
        alert="BufpoolUnwarmed",
    ),
    Problem(
        field="damages",
        severity="error",
        label="damaged",
        title="buffers written past their end",
        remedy="their memory is not lent again; look for native code that writes more than "
        "`len(buffer)` bytes",
        alert="BufpoolDamages",
    ),
    Problem(
        field="unlocked",
        severity="warning",
        label="unlocked",
        title="buffers lent below the best level of protection",
        remedy=f"{RAISE_MEMLOCK}, or demand a level with bufpool_secure_level",
        alert="BufpoolUnlocked",
    ),
    Problem(
        field="limit_hits",
        severity="warning",
        label="at limit",
        title="requests that met the cap of their pool",
        remedy="hold fewer buffers at once, or raise bufpool_max_bytes",
        alert="BufpoolLimit",
    ),
    Problem(
        field="escapes",
        severity="warning",
        label="escapes",
        title="views that outlived their buffer",
        remedy="copy what a task keeps of a buffer after its `with`",
        alert="BufpoolEscapes",
    ),
    Problem(
        field="reclaims",
        severity="warning",
        label="reclaims",
        title="buffers dropped, or still held when their task ended",
        remedy="use `with` or pooled_buffer",
        alert="BufpoolReclaims",
    ),
    Problem(
        field="refused",
        severity="warning",
        label="refused",
        title="sealed arguments that were tampered with, moved or sent twice",
        remedy="find out who sent them: a token was altered, sealed for another task or argument, "
        "replayed, or plain where a token was due",
        alert="BufpoolUnsealRefused",
    ),
)
SECURE_LEVEL_LOW: Final = Condition(
    severity="error",
    title="secure memory below the level that is demanded",
    remedy=f"{RAISE_MEMLOCK}, or demand less with bufpool_secure_level",
    alert="BufpoolSecureLevelLow",
)
HIT_RATE_LOW: Final = Condition(
    severity="warning",
    title="gets that find no buffer in their pool",
    remedy="warm more buffers of the sizes that miss with bufpool_warm, or raise "
    "bufpool_max_bytes; `celery -A proj bufpool doctor` suggests levels",
    alert="BufpoolHitRateLow",
)
SCRAPE_FAILING: Final = Condition(
    severity="error",
    title="a node that can't be scraped",
    remedy="no worker runs there, it listens elsewhere than bufpool_metrics_port says, or its "
    "metrics directory is gone",
    alert="BufpoolScrapeFailing",
)
UNSEAL_FAILING: Final = Condition(
    severity="error",
    title="sealed arguments that don't open",
    remedy="their tasks fail; the reason says why: see that producers have the public key of a "
    "private key that the workers hold, that expiry is longer than the queue, that clocks agree, "
    "and that Redis can be asked",
    alert="BufpoolUnsealFailing",
)
CONDITIONS: Final = (
    *PROBLEMS,
    *(SECURE_LEVEL_LOW, HIT_RATE_LOW, SCRAPE_FAILING, UNSEAL_FAILING),
)
"""All that have an alert."""

_BY_FIELD: Final = {problem.field: problem for problem in PROBLEMS}


def problem_of(field: str) -> Problem:
    """Return the problem that a counter counts; raises KeyError if it counts none."""
    return _BY_FIELD[field]


def find_problems(report: Report) -> Iterator[tuple[Problem, int]]:
    """Yield each problem that the report counts, with its number."""
    for problem in PROBLEMS:
        number = problem.count(report)
        if number:
            yield problem, number


def unseal_failures_in_words(report: Report) -> str:
    """Return how many sealed arguments did not open, by the reason, the most frequent first."""
    failures = sorted(report.unseal_failures.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason.replace('_', ' ')} {number}" for reason, number in failures)


def sentence(phrase: str) -> str:
    """Write a title or an advice as a sentence."""
    return f"{phrase[:1].upper()}{phrase[1:]}."
