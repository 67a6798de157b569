"""Results as tables: in a terminal, as Markdown, as data."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from rich.console import Console
from rich.table import Table as RichTable

from tests.benchmarks.timing import Timing

console = Console(width=118, highlight=False)


@dataclass(frozen=True)
class Row:
    """One measured value beside that of a rival, and the ratio that the project aims at.

    `at` is where it stands in a series: bytes, or processes that are gone.
    """

    what: str
    rival: str
    value: float
    rival_value: float
    ratio: float
    low: float
    high: float
    reach: float | None = None
    at: int | None = None
    unit: str = "seconds"

    @property
    def cells(self) -> tuple[str, ...]:
        """As text, in the order of Table.HEADER."""
        show = UNITS[self.unit]
        spread = "" if self.low == self.high else f"{self.low:.3g}-{self.high:.3g}"
        return (
            self.what,
            self.rival,
            show(self.value),
            show(self.rival_value),
            f"{self.ratio:.3g}",
            spread,
            "" if self.reach is None else f"{self.reach:.3g}",
        )


@dataclass
class Table:
    """Rows that answer one question; `name` is what plots and records know it by."""

    HEADER: ClassVar = ("what", "against", "its value", "against", "ratio", "spread", "reach")

    name: str
    title: str
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(  # noqa: PLR0913 - all but two by keyword
        self,
        timing: Timing,
        rival: Timing,
        *,
        what: str = "",
        reach: float | None = None,
        at: int | None = None,
        interval: bool = False,
    ) -> None:
        """Add a row; its spread is the ratios' middle half, or their median's interval."""
        ratios = timing.ratios(rival)
        low, middle, high = ratios.quartiles
        if interval:
            low, high = ratios.median_interval
        row = Row(
            what or timing.name,
            rival.name,
            timing.median,
            rival.median,
            middle,
            low,
            high,
            reach,
            at,
        )
        self.rows.append(row)

    def show(self) -> None:
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for place, name in enumerate(self.HEADER):
            table.add_column(name, justify="left" if place < 2 else "right")
        for row in self.rows:
            table.add_row(*row.cells)
        console.print()
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}")

    def markdown(self) -> Iterator[str]:
        """Lines of a Markdown section."""
        yield from (f"## {self.title}", "")
        yield f"| {' | '.join(self.HEADER)} |"
        yield f"|{'---|' * 2}{'---:|' * (len(self.HEADER) - 2)}"
        yield from (f"| {' | '.join(row.cells)} |" for row in self.rows)
        yield ""
        if self.notes:
            yield from (*(f"- {note}" for note in self.notes), "")


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


UNITS = {
    "seconds": duration,
    "bytes": lambda value: f"{value / 2**20:.1f} MiB",
    "page faults": lambda value: f"{value:.4g} faults",
}
