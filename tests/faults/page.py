"""The recorded run of children that came and went, and the table of the page that shows it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("record.json")
_KIB = 1024
_ROWS = (
    ("open descriptors of the main process", "descriptors", 1),
    ("memory of the main process (RSS), MiB", "rss_kib", _KIB),
    ("metric files", "metric_files", 1),
    ("bytes that a scrape reads, KiB", "files_bytes", _KIB),
    ("entries that a scrape reads", "files_entries", 1),
    ("merged file of all dead children, KiB", "merged_bytes", _KIB),
    ("entries of that file", "merged_entries", 1),
)


def recorded() -> dict[str, Any]:
    """Return what `python -m tests.faults` recorded."""
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def table() -> Iterator[str]:
    """Return the lines of the table: the node after the first children, and after the last."""
    samples = recorded()["samples"]
    shown = samples[0], samples[len(samples) // 2], samples[-1]
    yield f"| children that have come and gone | {_cells(s['children'] for s in shown)} |"
    yield "|---" + "|---:" * len(shown) + "|"
    for label, name, unit in _ROWS:
        yield f"| {label} | {_cells(round(s[name] / unit) for s in shown)} |"


def _cells(numbers: Iterator[int]) -> str:
    return " | ".join(f"{number:,}" for number in numbers)
