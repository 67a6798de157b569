"""The last hour of a node, drawn in a line for each number."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from bufpool_workers.console.terminal import human_age, percent
from bufpool_workers.counters.report import Report
from bufpool_workers.diagnostics.trends import course, recent_rates

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_-=+*#"


class Course:
    """The last hour, a character a minute: blocks on a terminal, ASCII in a pipe."""

    def __init__(self, report: Report) -> None:
        rates = recent_rates(report)
        self._now = (
            ""
            if rates is None
            else (
                f"last {human_age(rates.seconds)}: {rates.gets_per_second:.1f} gets/s, "
                f"hit rate {percent(rates.hit_rate)}"
            )
        )
        self._lines = list(zip(("gets/s", "hit rate", "held"), course(report), strict=True))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        levels = _BLOCKS if console.is_terminal and not options.ascii_only else _ASCII
        if self._now:
            yield Text(self._now)
        for name, values in self._lines:
            drawn = "".join(_level(value, values, levels) for value in values)
            yield Text(f"{name:9}{drawn[-max(options.max_width - 9, 1) :]}", no_wrap=True)


def _level(value: float | None, values: Sequence[float | None], levels: str) -> str:
    known = [each for each in values if each is not None]
    if value is None:
        return "."
    span = max(known) - min(known)
    share = (value - min(known)) / span if span else 0.0
    return levels[min(int(share * len(levels)), len(levels) - 1)]
