"""Text, numbers and tables: with colour on a terminal, plain words in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from bufpool_workers import units

_PIPE_COLUMNS = 10_000  # never broken, however long a directory's name is
_GOOD, _FAIR = 95, 90  # per cent; as the dashboard


def make_console(*, no_color: bool = False) -> Console:
    """Make a console for stdout; a pipe gets plain lines from it, each of them whole."""
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return Console(no_color=no_color or None, width=width, highlight=False, markup=False)


class _Table(Table):
    """A table that a narrow terminal breaks or cuts at its edge, rather than every number in it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.width = self.__rich_measure__(console, options.update(width=_PIPE_COLUMNS)).maximum
        return super().__rich_console__(console, options)


def new_table(*words: str, numbers: Sequence[str]) -> Table:
    """Make a table with columns of words, and then of numbers."""
    table = _Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def rate_style(rate: float | None) -> str:
    """Return the colour of a hit rate."""
    if rate is None:
        return ""
    return "green" if rate >= _GOOD else "yellow" if rate >= _FAIR else "red"


def level_style(level: str | None) -> str:
    """Return the colour of a level of protection."""
    return "red" if level == "plain" else ""


def percent(rate: float | None) -> str:
    """Write a rate for a column; "-" before there is one."""
    return "-" if rate is None else _unspaced(units.format_percentage(rate))


def human_bytes(nbytes: int) -> str:
    """Write a size for a column: 1536 is "1.5KiB"."""
    return _unspaced(units.format_bytes(nbytes))


def human_age(seconds: float) -> str:
    """Write an age for a column: 3725 s are "1h2min"."""
    return _unspaced(units.format_age(seconds))


def printable(text: str) -> str:
    """Replace what would change the terminal: the text may come from files and other hosts."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _unspaced(text: str) -> str:
    return text.replace(" ", "")  # a script's columns are words
