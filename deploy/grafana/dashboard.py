"""Makes dashboard.json: `pip install grafana-foundation-sdk && python dashboard.py`.

The dashboard is for the namespace `bufpool`; `--namespace` makes it for another.
"""

import argparse
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
SELECTED = 'job=~"$job", instance=~"$instance"'
PALETTE = {"good": "green", "fair": "yellow", "poor": "red"}


def query(expr: str, *, legend: str, namespace: str) -> prometheus.Dataquery:
    """Make a query: `@` stands for the namespace, `#` for the selected nodes."""
    expr = expr.replace("@", f"{namespace}_").replace("#", SELECTED)
    return prometheus.Dataquery().expr(expr).legend_format(legend)


def thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colour values from the lowest on."""
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=PALETTE[name]) for value, name in steps])
    )


LEVELS = ("0: may be swapped", "1: mlock, never swapped", "2: memfd, hidden from other processes")
HIT_RATE_BY_SIZE = (
    "100 * sum by (pool, size) (rate(@hits_total{#}[5m]))"
    " / (sum by (pool, size) (rate(@gets_total{#}[5m])) > 0)"
)
GOOD_FROM_95 = ((None, "poor"), (90.0, "fair"), (95.0, "good"))
ANY_IS_POOR = ((None, "good"), (1.0, "poor"))
NO_JUDGEMENT = ((None, "good"),)


class Tile(NamedTuple):
    """A number of the first row: title, unit, colours, query, and its meaning."""

    title: str
    unit: str
    steps: tuple[tuple[float | None, str], ...]
    expr: str
    description: str


class Graph(NamedTuple):
    """A graph: title, unit, queries with their legends, and its meaning."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str


TILES = (
    Tile(
        "Hit rate, last 5 min",
        "percent",
        GOOD_FROM_95,
        "100 * sum(rate(@hits_total{#}[5m])) / (sum(rate(@gets_total{#}[5m])) > 0)",
        "Gets that found a buffer, of all nodes and pools. Below 95 %, warm more: "
        "`celery bufpool doctor` suggests levels.",
    ),
    Tile(
        "Gets per second",
        "ops",
        NO_JUDGEMENT,
        "sum(rate(@gets_total{#}[5m]))",
        "Buffers asked for, over the last 5 minutes.",
    ),
    Tile(
        "Gets, in all",
        "short",
        NO_JUDGEMENT,
        "sum(@gets_total{#})",
        "Buffers asked for since the metrics directories began.",
    ),
    Tile(
        "Processes not warm",
        "short",
        ANY_IS_POOR,
        "sum(@processes{#}) - sum(@warmed_processes{#})",
        "Living processes below their warm levels: their first uses of a buffer are slow.",
    ),
    Tile(
        "Lowest secure level",
        "short",
        ((None, "poor"), (1.0, "good")),
        "min(@secure_level{#})",
        "The weakest protection that secure memory has in a living process.",
    ),
    Tile(
        "Escapes and reclaims, last hour",
        "short",
        ANY_IS_POOR,
        "sum(increase(@escapes_total{#}[1h])) + sum(increase(@reclaims_total{#}[1h]))",
        "Buffers that tasks kept, dropped or held at their end. The workers' logs name the tasks.",
    ),
)
GRAPHS = (
    Graph(
        "Hit rate by size and pool",
        "percent",
        ((HIT_RATE_BY_SIZE, "{{pool}} {{size}}"),),
        "Of the sizes that are used. One line that is low is a size to warm.",
    ),
    Graph(
        "Operations per second by size and pool",
        "ops",
        (
            ("sum by (pool, size) (rate(@gets_total{#}[5m])) > 0", "gets {{pool}} {{size}}"),
            ("sum by (pool, size) (rate(@misses_total{#}[5m])) > 0", "misses {{pool}} {{size}}"),
        ),
        "A miss had to map memory, and pays for its page faults.",
    ),
    Graph(
        "Bytes per second, reused and mapped",
        "Bps",
        (
            ("sum(rate(@bytes_reused_total{#}[5m]))", "reused"),
            ("sum(rate(@bytes_allocated_total{#}[5m]))", "mapped"),
        ),
        "Reused bytes are what the pools save; mapped ones come with warm-ups and misses.",
    ),
    Graph(
        "Buffers in use and idle",
        "short",
        (
            ("sum by (pool, size) (@buffers_in_use{#}) > 0", "in use {{pool}} {{size}}"),
            ("sum by (pool) (@buffers_idle{#})", "idle {{pool}}"),
        ),
        "Of living processes. In use at rest are buffers or views that something keeps.",
    ),
    Graph(
        "Escapes, reclaims, limit hits, unlocked, damages",
        "short",
        (
            ("sum by (pool) (increase(@escapes_total{#}[5m]))", "escapes {{pool}}"),
            ("sum by (pool) (increase(@reclaims_total{#}[5m]))", "reclaims {{pool}}"),
            ("sum by (pool) (increase(@limit_total{#}[5m]))", "limit hits {{pool}}"),
            ("sum by (pool) (increase(@unlocked_total{#}[5m]))", "unlocked {{pool}}"),
            ("sum by (pool) (increase(@damages_total{#}[5m]))", "damages {{pool}}"),
        ),
        "In 5 minutes each. All but limit hits are in the workers' logs, with task and place.",
    ),
    Graph(
        "Sealed arguments",
        "short",
        (
            ("sum(increase(@unsealed_total{#}[5m]))", "opened"),
            ("sum by (reason) (increase(@unseal_failures_total{#}[5m]))", "{{reason}}"),
        ),
        "Opened, and not opened by reason, in 5 minutes each. The runbook explains the reasons.",
    ),
    Graph(
        "Gets per second by task",
        "ops",
        (("topk(10, sum by (task) (rate(@task_gets_total{#}[5m])) > 0)", "{{task}}"),),
        "Buffers lent to runs of a task, where bufpool_task_metrics is on; the ten busiest tasks.",
    ),
    Graph(
        "Most bytes held at once by task",
        "bytes",
        (("topk(10, max by (task) (@task_peak_bytes{#}) > 0)", "{{task}}"),),
        "In one process since the metrics directory began, where bufpool_task_metrics is on. "
        "Warm levels have room for the tasks that run at once.",
    ),
    Graph(
        "Escapes and reclaims by task",
        "short",
        (
            (
                "topk(10, sum by (task) (increase(@task_escapes_total{#}[5m])) > 0)",
                "escapes {{task}}",
            ),
            (
                "topk(10, sum by (task) (increase(@task_reclaims_total{#}[5m])) > 0)",
                "reclaims {{task}}",
            ),
            ("topk(10, sum by (place) (increase(@escapes_at_total{#}[5m])) > 0)", "at {{place}}"),
        ),
        "In 5 minutes each. Tasks need bufpool_task_metrics, and places bufpool_debug: where the "
        "escaped buffer was acquired.",
    ),
    Graph(
        "Discards and files skipped",
        "short",
        (
            ("sum by (pool) (increase(@discards_total{#}[5m]))", "discards {{pool}}"),
            ("sum by (instance) (@skipped_files{#})", "skipped {{instance}}"),
        ),
        "Discards were not kept when given back. A skipped file's counts are missing.",
    ),
)
NODE_GRAPHS = (
    Graph(
        "Hit rate of $instance",
        "percent",
        (
            (
                (
                    "100 * sum by (pool) (rate(@hits_total{#}[5m]))"
                    " / (sum by (pool) (rate(@gets_total{#}[5m])) > 0)"
                ),
                "{{pool}}",
            ),
        ),
        "By pool, over the last 5 minutes.",
    ),
    Graph(
        "Memory of $instance",
        "bytes",
        (
            ("sum by (pool) (@held_bytes{#})", "held {{pool}}"),
            ("sum(@locked_bytes{#})", "locked"),
        ),
        "Held by its living processes, idle and in use; locked is secure memory.",
    ),
    Graph(
        "Processes of $instance",
        "short",
        (
            ("sum(@processes{#})", "processes"),
            ("sum(@warmed_processes{#})", "warm"),
            (
                "sum by (version, python, celery, host) (@build_info{#})",
                "{{host}}: bufpool_workers {{version}}, Python {{python}}, Celery {{celery}}",
            ),
        ),
        "Living ones that count, and the software of the node.",
    ),
)


def selector(name: str, *, of: str) -> dashboard.QueryVariable:
    """Let the viewer choose among the values of a label."""
    return (
        dashboard.QueryVariable(name)
        .datasource(SOURCE)
        .query(of)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
    )


def build_tile(tile: Tile, namespace: str) -> stat.Panel:
    """Build a tile; the secure level is put in words."""
    panel = stat.Panel().title(tile.title).unit(tile.unit).datasource(SOURCE).span(4).height(5)
    panel = panel.description(tile.description).thresholds(thresholds(*tile.steps))
    if "secure_level" in tile.expr:
        words = {str(n): ValueMappingResult(text=text) for n, text in enumerate(LEVELS)}
        panel = panel.mappings([ValueMap(options=words)])
    target = query(tile.expr, legend=tile.title, namespace=namespace).ref_id("A")
    return panel.with_target(target)


def build_graph(graph: Graph, namespace: str, *, span: int) -> timeseries.Panel:
    """Build a graph."""
    panel = timeseries.Panel().title(graph.title).unit(graph.unit).datasource(SOURCE)
    panel = panel.description(graph.description).span(span).height(8)
    if graph.unit == "percent":
        panel = panel.thresholds(thresholds(*GOOD_FROM_95)).min(0).max(100)
    for letter, (expr, legend) in zip(ascii_uppercase, graph.queries, strict=False):
        panel = panel.with_target(query(expr, legend=legend, namespace=namespace).ref_id(letter))
    return panel


def build(namespace: str) -> dashboard.Dashboard:
    """Build the whole dashboard."""
    board = (
        dashboard.Dashboard("Buffer pools")
        .uid("bufpool-workers")
        .tags(["celery", "bufpool"])
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(selector("job", of=f"label_values({namespace}_processes, job)"))
        .with_variable(
            selector("instance", of=f'label_values({namespace}_processes{{job=~"$job"}}, instance)')
        )
    )
    for tile in TILES:
        board = board.with_panel(build_tile(tile, namespace))
    for graph in GRAPHS:
        board = board.with_panel(build_graph(graph, namespace, span=12))
    board = board.with_row(dashboard.Row("Node $instance").repeat("instance"))
    for graph in NODE_GRAPHS:
        board = board.with_panel(build_graph(graph, namespace, span=8))
    return board


def main() -> None:
    """Write the JSON beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--namespace", default="bufpool")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("dashboard.json"))
    arguments = parser.parse_args()
    board = build(arguments.namespace).build()
    text = JSONEncoder(sort_keys=True, indent=2).encode(board)
    arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
