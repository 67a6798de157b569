"""What `celery bufpool rules` and `dashboard` print of deploy/, for an app's own names."""

import json
import re
import subprocess
from importlib.resources import files
from types import SimpleNamespace

import click
import pytest
from celery import Celery
from click.testing import CliRunner

from bufpool_workers.celery.commands import bufpool
from bufpool_workers.console import monitoring
from bufpool_workers.counters.catalog import COUNTERS
from bufpool_workers.metrics import Catalog
from tests.support.prometheus_server import find_program

SHIPPED = files("bufpool_workers.console.deploy")


def expressions(text):
    """Everything but what is said to people: comments and annotations."""
    text = re.sub(r"(?m)^\s*#.*\n", "", text)
    return re.sub(r"(?m)^( *)annotations:\n(?:\1 .*\n?)*", "", text)


def test_rules_of_default_names_equal_the_shipped_ones():
    shipped = SHIPPED.joinpath("prometheus", "rules.yml").read_text()
    printed = monitoring.rules(secure_level="mlock")
    assert expressions(printed) == expressions(shipped).lstrip()


def test_rules_use_the_given_namespace_job_and_level():
    printed = monitoring.rules("shop", job="workers", secure_level="memfd")
    assert printed.startswith("# For the namespace 'shop', the job 'workers' and the secure level")
    assert "bufpool_" not in expressions(printed)
    for counter in ("gets", "hits", "misses", "escapes"):
        assert f"shop_{counter}_total" in printed
    assert 'up{job="workers"}' in printed
    recorded = re.sub(r"- record: .*", "", expressions(printed))
    assert not re.findall(r'\b(?:shop_|bufpool:)[\w:]++(?!\{job="workers"[,}])', recorded)
    assert 'shop_secure_level{job="workers"} < 2' in printed
    assert "with bufpool_warm, or raise bufpool_max_bytes" in printed  # settings keep their names


@pytest.mark.parametrize("namespace", ["bufpool", "shop"])
def test_prometheus_accepts_the_rules(namespace, tmp_path):
    path = tmp_path / "rules.yml"
    path.write_text(monitoring.rules(namespace, job="a:b", secure_level="any"))
    command = [find_program("promtool"), "check", "rules", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_of_two_jobs_stand_side_by_side(tmp_path):
    levels = {"shop": "memfd", "mail": "mlock", "any": "any"}
    for job, level in levels.items():
        (tmp_path / f"{job}.yml").write_text(monitoring.rules(job=job, secure_level=level))
    labels = '{{job="{}", instance="a", pool="regular", size="4kb"}}'
    series = [
        (f"bufpool_{name}_total" + labels.format(job), f"0+{step}x30")
        for job in levels
        for name, step in (("gets", 600), ("hits", 600))
    ]
    series += [(f'bufpool_secure_level{{job="{job}", instance="a"}}', "1x30") for job in levels]
    fires = 'ALERTS{{alertname="{}", alertstate="firing", severity="critical", {}}}'
    who = fires.format("BufpoolSecureLevelLow", 'job="shop", instance="a"')
    recorded = 'bufpool:hit_ratio:rate5m{{job="{}", instance="a", pool="regular"}}'
    samples = [{"labels": recorded.format(job), "value": 1} for job in levels]
    tests = {
        "rule_files": [f"{job}.yml" for job in levels],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series],
                "promql_expr_test": [
                    {"expr": expr, "eval_time": "20m", "exp_samples": expected}
                    for expr, expected in (
                        ("bufpool:hit_ratio:rate5m", samples),
                        ("ALERTS", [{"labels": who, "value": 1}]),
                    )
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(json.dumps(tests))  # JSON is YAML
    command = [find_program("promtool"), "test", "rules", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_link_to_the_runbook_that_is_given():
    printed = monitoring.rules(runbook="https://wiki.example/bufpool")
    assert "runbook_url: https://wiki.example/bufpool#bufpoolescapes" in printed
    assert monitoring.RUNBOOK + "#" not in printed


def test_dashboard_uses_the_given_namespace():
    printed = monitoring.dashboard("shop")
    board, shipped = json.loads(printed), SHIPPED.joinpath("grafana", "dashboard.json").read_text()
    assert len(board["panels"]) == len(json.loads(shipped)["panels"]) > 0
    assert "bufpool_" not in printed
    names = {Catalog("shop").name(counter) + "_total" for counter in COUNTERS}
    assert names - set(re.findall(r"shop_\w+", printed)) == {"shop_puts_total"}
    assert monitoring.dashboard() == shipped


@pytest.mark.parametrize("job", ["two words", 'quo"ted', "back\\slash", "a#b", ""])
def test_job_name_that_breaks_the_rules_is_refused(job):
    given = SimpleNamespace(app=Celery(set_as_current=False), no_color=True)
    done = CliRunner().invoke(bufpool, ["rules", "--job", job], obj=given)
    assert done.exit_code == 2
    assert "--job" in done.output


def test_every_command_and_option_has_help():
    context = click.Context(bufpool)
    overview = CliRunner().invoke(bufpool, ["--help"]).output
    for name in bufpool.list_commands(context):
        command = bufpool.get_command(context, name)
        assert f"{name} {command.get_short_help_str(limit=60)}" in " ".join(overview.split())
        done = CliRunner().invoke(bufpool, [name, "--help"])
        assert done.exit_code == 0
        assert "Usage: " in done.output
        assert not {"\\", "\b"} & set(done.output)  # click's marks are not for people
        assert command.get_short_help_str(limit=60).endswith(".")
        for option in (p for p in command.params if isinstance(p, click.Option)):
            assert getattr(option, "help", None), (name, option.name)
    doctor = CliRunner().invoke(bufpool, ["doctor", "--help"]).output
    assert "as monitoring plugins have it:\n    0  nothing to do" in doctor
