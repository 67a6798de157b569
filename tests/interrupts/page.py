"""The recorded storm, and the table of the page that shows it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("record.json")
_COLUMNS = ("interrupts", "lost", "doubled", "miscounted")


def recorded() -> list[dict[str, Any]]:
    """Return a row for each pool of the recorded storm."""
    rows: list[dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return rows


def table() -> Iterator[str]:
    """Return the lines of the table."""
    yield "| pool | interrupts | lost | lent twice | numbers wrong by |"
    yield "|---|---:|---:|---:|---:|"
    for row in recorded():
        yield f"| `{row['name']}` | {' | '.join(f'{row[name]:,}' for name in _COLUMNS)} |"
