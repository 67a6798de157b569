"""A run on disk: tables for people, data for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.report import Row, Table

TABLES = "tables.md"
RESULTS = "results.json"


def save(folder: Path, tables: Sequence[Table], *, machine: Mapping[str, Any]) -> None:
    """Write tables.md and results.json; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {"machine": dict(machine), "tables": [asdict(table) for table in tables]}
    (folder / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    lines = ["# One run of the benchmarks", ""]
    lines += [f"- {key}: {_plain(value)}" for key, value in machine.items()]
    lines.append("")
    for table in tables:
        lines += table.markdown()
    (folder / TABLES).write_text("\n".join(lines), encoding="utf-8")


def load(folder: Path) -> list[Table]:
    """The tables that `save` wrote."""
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    return [
        Table(**{**table, "rows": [Row(**row) for row in table["rows"]]})
        for table in results["tables"]
    ]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return str(value)
