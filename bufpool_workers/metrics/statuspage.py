"""The page that the endpoint shows to people."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from prometheus_client.metrics_core import Metric

from bufpool_workers.metrics import catalog as names
from bufpool_workers.metrics.catalog import Catalog

_COLUMNS: Final = (*names.COUNTERS, names.HIT_RATE, names.IN_USE, *names.POOL_GAUGES)
_TOTALS: Final = (
    names.PROCESSES,
    names.WARMED,
    names.GLOBAL_HIT_RATE,
    names.REUSE_EFFICIENCY,
    names.MEMORY_ALLOCATED,
    names.MEMORY_REUSED,
    names.LOCKED_BYTES,
    names.SECURE_LEVEL,
    names.SKIPPED_FILES,
)
_STYLE: Final = (
    "body{font:15px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}"
)


def render(metrics: Iterable[Metric], *, catalog: Catalog) -> bytes:
    """Render our own metrics; sizes that nobody has used are left out."""
    values: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for metric in metrics:
        for sample in metric.samples:
            where = sample.labels.get("pool", ""), sample.labels.get("size", "")
            values[metric.name][where] = sample.value
    totals = [(spec.help, _number(values[catalog.name(spec)].get(("", "")))) for spec in _TOTALS]
    used = [size for size, number in values[catalog.name(names.COUNTERS[0])].items() if number]
    pools = [
        [" ".join(size), *(_number(values[catalog.name(spec)].get(size)) for spec in _COLUMNS)]
        for size in used
    ]
    heads = ["pool", *(spec.suffix.replace("_", " ") for spec in _COLUMNS)]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>bufpool</title>"
        f"<style>{_STYLE}</style><h1>bufpool</h1>{_table([], totals)}"
        f"<h2>Pools</h2>{_table(heads, pools)}<p><a href=metrics>metrics</a></p></html>"
    )
    return page.encode()


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first = "".join(f"<th>{escape(head)}</th>" for head in heads)
    rest = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><tr>{first}</tr>{rest}</table>"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
