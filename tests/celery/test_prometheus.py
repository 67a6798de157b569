"""A real Prometheus scrapes a real worker whose children are recycled and killed."""

import json
import re
import subprocess
import urllib.request

import pytest
from celery.exceptions import WorkerLostError

from bufpool_workers.pool_stats import LEVELS
from tests.support.checkout import CHECKOUT
from tests.support.pages import blocks_under
from tests.support.prometheus_server import Prometheus, find_program

DEPLOY = CHECKOUT / "deploy"
GO = "shockwave_buffer_pool"


def start(start_worker, tmp_path, *arguments, **settings):
    find_program("prometheus")
    worker = start_worker(
        "metrics_app:app",
        arguments=["--concurrency=2", *arguments],
        settings={"bufpool_metrics_port": 0, "bufpool_compact_foreign": True, **settings},
    )
    target = f"127.0.0.1:{worker.wait_for_port()}"
    rules = DEPLOY / "prometheus" / "rules.yml"
    return worker, target, Prometheus([target], folder=tmp_path, rules=[rules])


@pytest.mark.timeout(300)
def test_prometheus_sees_what_the_tasks_did_and_no_reset(start_worker, tmp_path):
    worker, _, prometheus = start(start_worker, tmp_path, "--max-tasks-per-child=2")
    with prometheus:
        prometheus.wait_for("sum(up)", 1)
        for done in range(1, 4):
            for _ in range(4):
                worker.run("metric_tasks.work", 5)
            with pytest.raises(WorkerLostError):
                worker.run("metric_tasks.die")
            prometheus.wait_for('sum(bufpool_gets_total{pool="regular"})', 20 * done)
            prometheus.wait_for("sum(jobs_total)", 4 * done)
        for counter in ("gets", "puts", "hits", "bytes_reused", "bytes_allocated"):
            assert prometheus.value(f"max(resets(bufpool_{counter}_total[1h]))") == 0
        assert prometheus.value("max(resets(jobs_total[1h]))") == 0
        prometheus.wait_for("sum(bufpool_buffers_in_use)", 0)


def dashboard_queries():
    board = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            expression = re.sub(r"\$(job|instance)", ".+", target["expr"])
            yield panel["title"], re.sub(r" > 0(\)?)$", r"\1", expression)


@pytest.mark.timeout(300)
def test_every_query_of_the_dashboard_and_every_rule_gives_an_answer(start_worker, tmp_path):
    worker, target, prometheus = start(
        start_worker, tmp_path, bufpool_task_metrics=True, bufpool_debug=True
    )
    with prometheus:
        for gets in (6, 12):
            worker.run("metric_tasks.work", 5)
            worker.run("metric_tasks.keep_view")
            prometheus.wait_for('sum(bufpool_gets_total{pool="regular"})', gets)
            prometheus.wait_for("count_over_time(up[1m]) > bool 3", 1)
        queries = list(dashboard_queries())
        assert len(queries) > 15
        for title, expression in queries:
            assert prometheus.query(expression), (title, expression)
        url = f"http://{target}/metrics"
        with urllib.request.urlopen(url, timeout=30) as response:
            text = response.read()
    check = subprocess.run(
        [find_program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    complaints = check.stderr.decode() + check.stdout.decode()
    assert (check.returncode, complaints) == (0, "")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("namespace", ["bufpool", GO])
def test_the_queries_of_the_readme_have_answers(start_worker, tmp_path, namespace):
    (block,) = blocks_under("First queries", "promql")
    queries = block.text.replace("bufpool", namespace).splitlines()
    worker, _, prometheus = start(
        start_worker, tmp_path, bufpool_metrics_namespace=namespace, bufpool_task_metrics=True
    )
    with prometheus:
        worker.run("metric_tasks.work", 5)
        prometheus.wait_for(f'sum({namespace}_gets_total{{size="4kb", pool="regular"}})', 5)
        prometheus.wait_for("count_over_time(up[1m]) > bool 3", 1)
        for query in queries:
            if not query.startswith("#"):
                # the alert's threshold aside, for all is well here
                assert prometheus.query(query.partition(" < ")[0]), query


def test_rules_fire_when_they_should_and_only_then():
    folder = DEPLOY / "prometheus"
    promtool = find_program("promtool")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
        run = subprocess.run(
            [promtool, *command], cwd=folder, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_dashboard_is_what_its_code_makes(tmp_path):
    pytest.importorskip("grafana_foundation_sdk", reason="pip install grafana-foundation-sdk")
    import sys  # noqa: PLC0415

    code, output = DEPLOY / "grafana" / "dashboard.py", tmp_path / "made.json"
    subprocess.run([sys.executable, code, "--output", output], check=True)
    assert output.read_text() == (DEPLOY / "grafana" / "dashboard.json").read_text()


def test_the_dashboard_is_valid_by_grafanas_schema_and_each_panel_says_its_meaning():
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    board = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    read = models.Dashboard.from_json(board)
    rows = [panel for panel in read.panels if panel.type_val == "row"]
    assert [row.repeat for row in rows] == ["instance"]
    panels = [panel for panel in read.panels if panel.type_val != "row"]
    assert len(panels) > 12
    for panel in panels:
        assert panel.description, panel.title
        assert panel.targets, panel.title
    (level,) = [panel for panel in panels if panel.title == "Lowest secure level"]
    words = level.field_config.defaults.mappings[0].options
    assert len(words) == len(LEVELS)
    assert all(level in words[str(number)].text for number, level in enumerate(LEVELS) if number)
