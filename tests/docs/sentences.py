"""The figures that stand in sentences of the pages: those of the records, and those of the code."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import bufpool_workers as bp
from bufpool_workers import memory
from bufpool_workers.counters import counterfile, history, tasks
from bufpool_workers.diagnostics import sizing
from bufpool_workers.metrics import bounded_server, request
from bufpool_workers.sealing import token
from tests.benchmarks import figures, timing
from tests.benchmarks.report import duration
from tests.faults import page as faults
from tests.interrupts import page as interrupts
from tests.leaks import page as leaks
from tests.soak import page as soak
from tests.support.checkout import CHECKOUT

METRICS = "bufpool_workers/metrics/README.md"
BENCHMARKS = "tests/benchmarks/README.md"
_FIGURE = r"\d[\d.,]*(?: (?:s|ms|µs|ns)\b)?"


class Sentence:
    """A piece of a page's text with `{}` where figures stand, and the figures.

    Where lines end makes no difference.
    """

    def __init__(self, page: str, text: str, values: Callable[[], Sequence[object]]) -> None:
        self.page, self.text, self._values = page, text, values

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The piece with any figures."""
        words = [re.escape(word).replace(r"\{\}", f"({_FIGURE})") for word in self.text.split()]
        return re.compile(r"\s+".join(words))

    def fill(self, text: str) -> str:
        """Return the page's text with the figures that the piece has to have.

        Raises LookupError if the page does not have the piece exactly once.
        """
        found = list(self.pattern.finditer(text))
        if len(found) != 1:
            raise LookupError(f"{self.page}: {len(found)} times, once wanted: {self.text}")
        places = [found[0].span(group + 1) for group in range(self.pattern.groups)]
        for (start, end), value in reversed(list(zip(places, self._values(), strict=True))):
            text = text[:start] + str(value) + text[end:]
        return text


def _after_jobs_of_rq() -> Sequence[object]:
    table = figures.table("hosts_scrape")
    left, merged = re.findall(r"\d+", table.notes[0])
    row = table.rows[0]
    jobs = re.findall(r"\d+", table.title)[0]
    return jobs, left, figures.rival_value(row), merged, figures.value(row)


def _many_series() -> Sequence[object]:
    later, first = figures.table("scale_series").rows
    return figures.number(later.ratio, 1), figures.number(first.ratio, 1)


def _instructions() -> dict[str, int]:
    path = CHECKOUT / "tests/benchmarks/record/instructions.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: count - found["an empty loop"] for name, count in found.items()}


def _whole(number: float) -> str:
    return f"{number:,.0f}"


SENTENCES = (
    Sentence(
        "README.md",
        "([{} interrupts](tests/interrupts/README.md))",
        lambda: [_whole(max(row["interrupts"] for row in interrupts.recorded()))],
    ),
    Sentence(
        "tests/soak/README.md",
        "`make soak SECONDS={}`",
        lambda: [f"{soak.recorded()['seconds']:g}"],
    ),
    Sentence(
        "tests/faults/README.md",
        "`make faults` also runs {} children",
        lambda: [_whole(faults.recorded()["children"])],
    ),
    Sentence(
        "tests/leaks/README.md",
        "(Linux {}, Python {}, Celery {}. The",
        lambda: list(leaks.recorded()["machine"].values()),
    ),
    Sentence(
        METRICS,
        "{} jobs of RQ leave {} files and a scrape of {} of processor time. With it they leave {} "
        "files and a scrape of {} (",
        _after_jobs_of_rq,
    ),
    Sentence(
        BENCHMARKS,
        "{} of the stock collector's time, and the first scrape, which learns them, takes {} times",
        _many_series,
    ),
    Sentence(
        BENCHMARKS,
        "`acquire(4096).release()` takes {} instructions, and a `with` takes {} (",
        lambda: [
            _instructions()[name]
            for name in ("acquire and release, 4 KiB", "a with statement, 4 KiB")
        ],
    ),
    # of the code: what a reader plans with
    Sentence(BENCHMARKS, "A sample takes {} or more", lambda: [duration(timing.SAMPLE_SECONDS)]),
    Sentence(
        "bufpool_workers/README.md",
        "takes {} KiB more of the metrics directory for each process",
        lambda: [(counterfile._TASKS_BYTES + counterfile._PEAKS_BYTES) // bp.KiB],
    ),
    Sentence(
        "bufpool_workers/memory/README.md",
        "**The defaults** lock at least {} KiB in each process.",
        lambda: [memory.secure_warm_bytes(bp.Settings()) // bp.KiB],
    ),
    Sentence(
        "deploy/README.md",
        "(RLIMIT_MEMLOCK): {} MiB for each process with the default settings",
        lambda: [sum(bp.Settings().max_bytes[kind] for kind in ("secure", "random")) // bp.MiB],
    ),
    Sentence(METRICS, "**Each process tells {} tasks apart**", lambda: [tasks.MOST_TASKS]),
    Sentence(METRICS, "the last {} characters count", lambda: [counterfile._TASK_CHARACTERS]),
    Sentence(METRICS, "a sample every {} seconds", lambda: [history.INTERVAL_SECONDS]),
    Sentence(METRICS, "before a pool has {} gets", lambda: [sizing.ENOUGH_GETS]),
    Sentence(
        METRICS,
        "It holds at most {} connections, and {} for each address",
        lambda: [bounded_server.MAX_CONNECTIONS, bounded_server.MAX_PER_PEER],
    ),
    Sentence(
        METRICS,
        "A client has {} s for the handshake and the head of its request, which has at most {} "
        "KiB. It has {} s to take the answer",
        lambda: [
            f"{bounded_server.HEAD_SECONDS:g}",
            request.MAX_HEAD_BYTES // bp.KiB,
            f"{bounded_server.ANSWER_SECONDS:g}",
        ],
    ),
    Sentence(
        "bufpool_workers/sealing/README.md",
        "A secret has at most {} MiB",
        lambda: [token.MAX_SECRET_BYTES // bp.MiB],
    ),
)
