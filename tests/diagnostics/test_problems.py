"""The list of conditions, and the alerts that say the same."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from bufpool_workers.console import monitoring
from bufpool_workers.diagnostics.problems import CONDITIONS, PROBLEMS, find_problems, sentence
from bufpool_workers.errors import REFUSALS, UNSEAL_FAILURES
from bufpool_workers.metrics import ProcessReport, Report
from bufpool_workers.pool_stats import PoolStats

ROOT = Path(__file__).parents[2]
OF_THE_NODE = {"skipped", "unwarmed", "refused"}
LABELS = dict.fromkeys(("skipped", "unwarmed"), ": {{ $value }}") | {
    "refused": " ({{ $labels.reason }})"
}


def alerts():
    groups = yaml.safe_load(monitoring.rules())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_every_alert_is_in_the_list():
    assert {condition.alert for condition in CONDITIONS} == set(alerts())


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.alert)
def test_alert_has_advice_and_severity_of_its_condition(condition):
    alert = alerts()[condition.alert]
    assert alert["annotations"]["description"] == sentence(condition.advice)
    if condition.severity == "error":
        assert alert["labels"]["severity"] == "critical"


def test_every_alert_has_its_section_in_the_runbook_and_no_other_has():
    text = (ROOT / monitoring.RUNBOOK).read_text(encoding="utf-8")
    sections = dict(re.findall(r"(?ms)^## (\w+)$\n(.*?)(?=^## |\Z)", text))
    assert set(sections) == set(alerts())
    for name, alert in alerts().items():
        assert alert["annotations"]["runbook_url"] == f"{monitoring.RUNBOOK}#{name.lower()}"
        for part in ("**Meaning.** ", "**See.** ", "**Do.** "):
            assert sections[name].count(part) == 1, name


def test_runbook_quotes_of_the_log_what_the_alerts_quote():
    text = (ROOT / monitoring.RUNBOOK).read_text(encoding="utf-8")
    for condition in CONDITIONS:
        for words in re.findall(r"`(bufpool: \w+)`", condition.advice):
            assert f"`{words}`" in text


def test_alert_of_refusals_selects_their_reasons():
    (reasons,) = re.findall(r'reason=~"([a-z_|]+)"', alerts()["BufpoolUnsealRefused"]["expr"])
    assert set(reasons.split("|")) == REFUSALS <= set(UNSEAL_FAILURES)


@pytest.mark.parametrize("name", ["BufpoolDamages", "BufpoolUnsealRefused"])
def test_what_one_sample_may_tell_of_waits_for_nothing(name):
    assert "for" not in alerts()[name]


def test_all_other_alerts_wait_for_more_than_a_sample():
    waiting = {name for name, alert in alerts().items() if "for" in alert}
    assert waiting == set(alerts()) - {"BufpoolDamages", "BufpoolUnsealRefused"}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.field)
def test_alert_has_the_title_of_its_problem(problem):
    alert = alerts()[problem.alert]
    number = LABELS.get(problem.field, " ({{ $labels.pool }} pool)")
    title = sentence(problem.title).removesuffix(".")
    assert alert["annotations"]["summary"] == title + number


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
        unseal_failures={"wrong_task": 1, "expired": 5},
    )
    found = {problem.field: number for problem, number in find_problems(report)}
    assert found == {
        problem.field: 1 if problem.field in OF_THE_NODE else 3 for problem in PROBLEMS
    }
    assert not list(find_problems(Report(unix_seconds=0.0, pools={})))
