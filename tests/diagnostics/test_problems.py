"""The list of conditions, and the alerts that say the same."""

from dataclasses import fields

import pytest
import yaml

from bufpool_workers.console import monitoring
from bufpool_workers.diagnostics.problems import PROBLEMS, find_problems, sentence
from bufpool_workers.metrics import ProcessReport, Report
from bufpool_workers.pool_stats import PoolStats

OF_THE_NODE = {"skipped", "unwarmed"}
# a rate, a demanded level and a scrape: a report counts none of them
OTHER_ALERTS = {"BufpoolHitRateLow", "BufpoolSecureLevelLow", "BufpoolScrapeFailing"}


def alerts():
    groups = yaml.safe_load(monitoring.rules())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_every_alert_about_a_counted_condition_is_in_the_list():
    assert {problem.alert for problem in PROBLEMS} | OTHER_ALERTS == set(alerts())


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.field)
def test_alert_has_title_advice_and_severity_of_its_problem(problem):
    alert = alerts()[problem.alert]
    number = ": {{ $value }}" if problem.field in OF_THE_NODE else " ({{ $labels.pool }} pool)"
    title = sentence(problem.title).removesuffix(".")
    assert alert["annotations"]["summary"] == title + number
    assert alert["annotations"]["description"] == sentence(problem.advice)
    if problem.severity == "error":
        assert alert["labels"]["severity"] == "critical"


def test_each_problem_is_counted_by_a_report():
    assert {problem.field for problem in PROBLEMS} - OF_THE_NODE <= {
        f.name for f in fields(PoolStats)
    }
    numbers = PoolStats(**{p.field: 3 for p in PROBLEMS if p.field not in OF_THE_NODE})
    cold = ProcessReport(
        pid=1, age_seconds=1, warmed=False, secure_level=None, locked_bytes=0, pools={}
    )
    report = Report(
        unix_seconds=0.0,
        pools={"secure": PoolStats.of_sizes({"4kb": numbers})},
        processes=(cold,),
        skipped={"x.db": "damaged"},
    )
    found = {problem.field: number for problem, number in find_problems(report)}
    assert found == {
        problem.field: 1 if problem.field in OF_THE_NODE else 3 for problem in PROBLEMS
    }
    assert not list(find_problems(Report(unix_seconds=0.0, pools={})))
