"""Now and then: rates, the last hour, and problems that have not come back."""

import pytest

from bufpool_workers.counters.history import History, Sample
from bufpool_workers.counters.report import ProcessReport, Report
from bufpool_workers.diagnostics.trends import course, recent_rates, see_problems
from bufpool_workers.pool_stats import PoolStats

NOW = 1.8e9


def report(samples=(), *, began=NOW - 7200, last_seen=None, processes=(), **counts):
    pool = PoolStats.of_sizes({"4kb": PoolStats(**counts)})
    history = History(
        began=began,
        samples=tuple(Sample(NOW - ago, *numbers) for ago, *numbers in samples),
        last_seen=last_seen or {},
    )
    return Report(unix_seconds=NOW, pools={"regular": pool}, history=history, processes=processes)


def test_rates_are_those_of_the_last_five_minutes():
    rates = recent_rates(report([(900, 0, 0, 0), (300, 100, 90, 0)], gets=400, hits=240))
    assert rates.gets_per_second == 1
    assert rates.hit_rate == 50
    assert rates.seconds == 300


def test_no_gets_have_no_hit_rate_and_a_directory_that_began_again_no_rates():
    assert recent_rates(report([(100, 5, 5, 0)], gets=5, hits=5)).hit_rate is None
    assert recent_rates(report([(100, 5, 5, 0)], gets=4)) is None
    assert recent_rates(report([(900, 5, 5, 0)], gets=9)) is None
    assert recent_rates(Report(unix_seconds=NOW, pools={})) is None


def test_course_has_a_value_for_each_minute_that_was_sampled():
    samples = [(130, 0, 0, 10), (70, 60, 30, 20), (10, 60, 30, 30)]
    gets, rates, held = course(report(samples))
    assert (len(gets), len(rates), len(held)) == (60, 60, 60)
    assert gets[-3:] == [None, 1, 0]
    assert rates[-3:] == [None, 50, None]
    assert held[-4:] == [None, 10, 20, 30]


@pytest.mark.parametrize(
    ("last_seen", "is_past", "when"),
    [
        ({"escapes": NOW - 125}, False, "last seen 2 min 5 s ago"),
        ({"escapes": NOW - 3600}, True, "last seen 1 h 0 min ago"),
        ({}, True, "not in the last 2 h 0 min"),
    ],
)
def test_problem_that_has_not_come_back_for_an_hour_is_past(last_seen, is_past, when):
    (seen,) = see_problems(report(escapes=3, last_seen=last_seen))
    assert (seen.number, seen.is_past, seen.when) == (3, is_past, when)


def test_problem_is_current_until_it_was_watched_for_an_hour():
    (seen,) = see_problems(report(escapes=3, began=NOW - 600))
    assert (seen.is_past, seen.when) == (False, "not in the last 10 min 0 s")


def test_of_a_problem_before_the_first_minute_that_was_watched_nothing_is_said():
    (seen,) = see_problems(report(escapes=3, began=NOW - 59))
    assert (seen.is_past, seen.when) == (False, "")
    (seen,) = see_problems(report(escapes=3, began=NOW - 59, last_seen={"escapes": NOW - 5}))
    assert seen.when == "last seen 5 s ago"


def test_problem_without_a_history_is_current():
    pools = {"regular": PoolStats.of_sizes({"4kb": PoolStats(escapes=1)})}
    (seen,) = see_problems(Report(unix_seconds=NOW, pools=pools))
    assert (seen.is_past, seen.when) == (False, "")


def test_what_is_so_now_is_never_past():
    cold = ProcessReport(
        pid=1, age_seconds=1, warmed=False, secure_level=None, locked_bytes=0, pools={}
    )
    (seen,) = see_problems(report(processes=(cold,)))
    assert (seen.problem.field, seen.is_past, seen.when) == ("unwarmed", False, "")
