"""Makes dashboard.json: `pip install grafana-foundation-sdk && python dashboard.py`.

The dashboard is for the namespace `bufpool`; `--namespace` makes it for another.
"""

import argparse
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
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


HIT_RATE_BY_SIZE = (
    "100 * sum by (pool, size) (rate(@hits_total{#}[5m]))"
    " / (sum by (pool, size) (rate(@gets_total{#}[5m])) > 0)"
)
GOOD_FROM_95 = ((None, "poor"), (90.0, "fair"), (95.0, "good"))
ANY_IS_POOR = ((None, "good"), (1.0, "poor"))

STATS = (
    (
        "Hit rate, last 5 min",
        "percent",
        GOOD_FROM_95,
        ("100 * sum(rate(@hits_total{#}[5m])) / (sum(rate(@gets_total{#}[5m])) > 0)",),
    ),
    ("Hit rate since the start", "percent", GOOD_FROM_95, ("min(@global_hit_rate{#})",)),
    ("Reuse efficiency", "percent", GOOD_FROM_95, ("min(@reuse_efficiency{#})",)),
    (
        "Processes not warm",
        "short",
        ANY_IS_POOR,
        ("sum(@processes{#}) - sum(@warmed_processes{#})",),
    ),
    ("Lowest secure level", "short", ((None, "poor"), (1.0, "good")), ("min(@secure_level{#})",)),
    (
        "Escapes and reclaims, last hour",
        "short",
        ANY_IS_POOR,
        ("sum(increase(@escapes_total{#}[1h])) + sum(increase(@reclaims_total{#}[1h]))",),
    ),
)
GRAPHS = (
    ("Hit rate by size and pool", "percent", ((HIT_RATE_BY_SIZE, "{{pool}} {{size}}"),)),
    (
        "Operations per second by size and pool",
        "ops",
        (
            ("sum by (pool, size) (rate(@gets_total{#}[5m])) > 0", "gets {{pool}} {{size}}"),
            ("sum by (pool, size) (rate(@misses_total{#}[5m])) > 0", "misses {{pool}} {{size}}"),
        ),
    ),
    (
        "Bytes per second, reused and mapped",
        "Bps",
        (
            ("sum(rate(@bytes_reused_total{#}[5m]))", "reused"),
            ("sum(rate(@bytes_allocated_total{#}[5m]))", "mapped"),
        ),
    ),
    (
        "Memory held and locked",
        "bytes",
        (
            ("sum by (instance, pool) (@held_bytes{#})", "held {{instance}} {{pool}}"),
            ("sum by (instance) (@locked_bytes{#})", "locked {{instance}}"),
        ),
    ),
    (
        "Buffers in use and idle",
        "short",
        (
            ("sum by (pool, size) (@buffers_in_use{#}) > 0", "in use {{pool}} {{size}}"),
            ("sum by (pool) (@buffers_idle{#})", "idle {{pool}}"),
        ),
    ),
    (
        "Processes",
        "short",
        (
            ("sum by (instance) (@processes{#})", "{{instance}}"),
            ("sum by (instance) (@warmed_processes{#})", "warm {{instance}}"),
        ),
    ),
    (
        "Escapes, reclaims, limit hits, unlocked, damages",
        "short",
        (
            ("sum by (pool) (increase(@escapes_total{#}[5m]))", "escapes {{pool}}"),
            ("sum by (pool) (increase(@reclaims_total{#}[5m]))", "reclaims {{pool}}"),
            ("sum by (pool) (increase(@limit_total{#}[5m]))", "limit hits {{pool}}"),
            ("sum by (pool) (increase(@unlocked_total{#}[5m]))", "unlocked {{pool}}"),
            ("sum by (pool) (increase(@damages_total{#}[5m]))", "damages {{pool}}"),
        ),
    ),
    (
        "Discards and files skipped",
        "short",
        (
            ("sum by (pool) (increase(@discards_total{#}[5m]))", "discards {{pool}}"),
            ("sum by (instance) (@skipped_files{#})", "skipped {{instance}}"),
        ),
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
    for title, unit, steps, exprs in STATS:
        panel = stat.Panel().title(title).unit(unit).datasource(SOURCE).span(4).height(5)
        panel = panel.thresholds(thresholds(*steps))
        for expr in exprs:
            target = query(expr, legend=title, namespace=namespace).ref_id("A")
            panel = panel.with_target(target)
        board = board.with_panel(panel)
    for title, unit, queries in GRAPHS:
        graph = timeseries.Panel().title(title).unit(unit).datasource(SOURCE).span(12).height(8)
        if unit == "percent":
            graph = graph.thresholds(thresholds(*GOOD_FROM_95)).min(0).max(100)
        for letter, (expr, legend) in zip(ascii_uppercase, queries, strict=False):
            target = query(expr, legend=legend, namespace=namespace).ref_id(letter)
            graph = graph.with_target(target)
        board = board.with_panel(graph)
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
