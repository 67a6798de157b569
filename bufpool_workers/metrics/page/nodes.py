"""The status page's part on whose numbers these are."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree.ElementTree import Element

from bufpool_workers.counters.node_file import NodeInfo
from bufpool_workers.counters.report import Report
from bufpool_workers.metrics.page.html import element, section, table
from bufpool_workers.units import format_age

_HEADS: Final = ("Node", "App", "Host", "Main process", "Running for", "Since", "Software")


def name_of(report: Report) -> str:
    """Name the nodes in a few words; "" where none says its name."""
    names = [info.node for info in report.nodes]
    if len(names) <= 1:
        return "".join(names)
    return f"{names[0]} and {len(names) - 1} more"


def show_nodes(report: Report) -> Iterator[Element]:
    """Describe the nodes: host, app, versions, start, settings."""
    if not report.nodes:
        text = "No main process says who it is: only scripts and web servers count here, if any."
        yield section("nodes", "Whose numbers", element("p", text))
        return
    rows = [_row(info, report.unix_seconds) for info in report.nodes]
    settings = [
        element(
            "details",
            element("summary", f"Settings in force: {info.node}"),
            element("dl", *_settings(info)),
            id=f"settings-{number}",
        )
        for number, info in enumerate(report.nodes)
    ]
    made = table(caption="Nodes that count here", heads=_HEADS, rows=rows)
    yield section("nodes", "Whose numbers", made, *settings)


def _row(info: NodeInfo, now: float) -> list[str]:
    since = datetime.fromtimestamp(info.started, UTC)
    return [
        info.node,
        info.app or "none",
        info.host,
        str(info.pid),
        format_age(max(0.0, now - info.started)),
        f"{since:%Y-%m-%d %H:%M} UTC",
        ", ".join(f"{name} {version}" for name, version in info.software.items()),
    ]


def _settings(info: NodeInfo) -> Iterator[Element]:
    for name, value in info.settings.items():
        note = "" if name in info.changed else " (default)"
        yield element("dt", element("code", name))
        yield element("dd", element("code", _written(value)), note)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
