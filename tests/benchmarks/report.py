"""Results as tables for people, and as JSON with what is known of the machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyperf
from rich.console import Console
from rich.table import Table as RichTable

from .timing import Timing

console = Console(width=118, highlight=False)

# pyperf knows more of a machine than a reader wants to see
_SHOWN = (
    "python_version",
    "python_compiler",
    "platform",
    "cpu_model_name",
    "cpu_count",
    "cpu_affinity",
    "cpu_config",
    "load_avg_1min",
)


@dataclass(frozen=True)
class Row:
    """One timing beside that of a rival, and the ratio that the project aims at."""

    what: str
    rival: str
    seconds: float
    rival_seconds: float
    ratio: float
    low: float
    high: float
    reach: float | None = None


@dataclass
class Table:
    """A table of results."""

    title: str
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        timing: Timing,
        rival: Timing,
        *,
        what: str = "",
        reach: float | None = None,
        interval: bool = False,
    ) -> None:
        """Add a row; its spread is the ratios' middle half, or their median's interval."""
        ratios = timing.ratios(rival)
        low, middle, high = ratios.quartiles
        if interval:
            low, high = ratios.median_interval
        self.rows.append(
            Row(
                what or timing.name,
                rival.name,
                timing.median,
                rival.median,
                middle,
                low,
                high,
                reach,
            )
        )

    def show(self) -> None:
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        table.add_column("what")
        table.add_column("against")
        for column in ("its time", "against", "ratio", "spread", "reach"):
            table.add_column(column, justify="right")
        for row in self.rows:
            table.add_row(
                row.what,
                row.rival,
                duration(row.seconds),
                duration(row.rival_seconds),
                f"{row.ratio:.4g}",
                f"{row.low:.4g}-{row.high:.4g}",
                "" if row.reach is None else f"{row.reach:.3g}",
            )
        console.print()
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}")


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def machine() -> dict[str, Any]:
    """What pyperf finds out about this machine and Python, without its name."""
    run = pyperf.Run([1.0], metadata={"name": "machine"})
    return {key: value for key, value in run.get_metadata().items() if key in _SHOWN}


def save(path: Path, tables: Sequence[Table]) -> None:
    results = {"machine": machine(), "tables": [asdict(table) for table in tables]}
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
