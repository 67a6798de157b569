"""Now and then: rates of the last minutes, an hour's course, and what has not come back since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bufpool_workers.counters.history import Sample
from bufpool_workers.counters.report import Report
from bufpool_workers.diagnostics.problems import Problem, find_problems
from bufpool_workers.units import format_age

RATE_SECONDS: Final = 300.0
PAST_SECONDS: Final = 3600.0
LEAST_WATCHED_SECONDS: Final = 60.0  # what came just before is no more "earlier" than it is now
MINUTES: Final = 60


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of the last minutes; `hit_rate` is None if no buffer was asked for."""

    seconds: float
    gets_per_second: float
    hit_rate: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A problem that a report counts, its number, and when it was last seen to grow.

    `is_past` is True if it has not come back for an hour. `when` is a phrase, "" where unknown.
    """

    problem: Problem
    number: int
    is_past: bool
    when: str


def recent_rates(report: Report) -> Rates | None:
    """Return the rates over the last five minutes, as far as there are samples; else None."""
    if report.history is None:
        return None
    total, now = report.total, report.unix_seconds
    first = next((s for s in report.history.samples if s.at >= now - RATE_SECONDS), None)
    if first is None or now - first.at < 1 or total.gets < first.gets:
        return None  # a directory that began again counts from zero
    gets, hits, seconds = total.gets - first.gets, total.hits - first.hits, now - first.at
    return Rates(seconds, gets / seconds, 100 * hits / gets if gets > 0 else None)


def course(report: Report) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Return gets per second, hit rate and held bytes of each of the last 60 minutes.

    None stands for a minute that nobody sampled, and for the hit rate of one without gets.
    """
    minutes: list[list[Sample]] = [[] for _ in range(MINUTES)]
    for sample in report.history.samples if report.history else ():
        age = int((report.unix_seconds - sample.at) // 60)
        if 0 <= age < MINUTES:
            minutes[MINUTES - 1 - age].append(sample)
    gets: list[float | None] = []
    rates: list[float | None] = []
    last: Sample | None = None
    for samples in minutes:
        if last is None or not samples or samples[-1].gets < last.gets:
            gets.append(None)
            rates.append(None)
        else:
            more, seconds = samples[-1].gets - last.gets, samples[-1].at - last.at
            gets.append(more / seconds)
            rates.append(100 * (samples[-1].hits - last.hits) / more if more else None)
        last = samples[-1] if samples else last
    return gets, rates, [samples[-1].held_bytes if samples else None for samples in minutes]


def see_problems(report: Report) -> Iterator[Seen]:
    """Yield each problem that the report counts, with when it was last seen."""
    for problem, number in find_problems(report):
        is_past, when = False, ""
        if problem.is_event and report.history is not None:
            at = report.history.last_seen.get(problem.field)
            age = report.unix_seconds - (report.history.began if at is None else at)
            is_past = age >= PAST_SECONDS
            since = format_age(max(age, 0))
            if at is not None:
                when = f"last seen {since} ago"
            elif age >= LEAST_WATCHED_SECONDS:
                when = f"not in the last {since}"
        yield Seen(problem, number, is_past, when)
