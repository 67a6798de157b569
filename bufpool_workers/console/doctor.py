"""The doctor's findings on a terminal or in a pipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap

from rich.text import Text

from bufpool_workers.console.tables import make_console, printable
from bufpool_workers.diagnostics.finding import LEVELS, Finding

EXIT_STATUS = {"ok": 0, "note": 0, "warning": 1, "error": 2}
_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}
_INDENT = 9


def show(findings: Sequence[Finding], *, no_color: bool, show_all: bool) -> None:
    """Print them, the worst last, each beginning with its level and name; then how many."""
    console = make_console(no_color=no_color)
    for finding in sorted(findings, key=lambda finding: LEVELS.index(finding.level)):
        if finding.level == "ok" and not show_all:
            continue
        first, *rest = _lines(finding, console.width)
        console.print(Text.assemble((first[:_INDENT], _STYLES[finding.level]), first[_INDENT:]))
        for line in rest:
            console.print(Text(line))
        if finding.paste:  # whole, for the terminal's user to copy
            console.print(Text(" " * _INDENT + finding.paste, style="bold"), soft_wrap=True)
    counts = Counter(finding.level for finding in findings)
    console.print(", ".join(f"{level} {counts[level]}" for level in reversed(LEVELS)))


def exit_status(findings: Sequence[Finding]) -> int:
    """Give the status of the worst of them."""
    return max((EXIT_STATUS[finding.level] for finding in findings), default=0)


def _lines(finding: Finding, width: int) -> list[str]:
    texts = [f"{finding.level:{_INDENT}}{finding.check}: {finding.what}"]
    if finding.to_do:
        texts.append(f"{'':{_INDENT}}-> {finding.to_do}")
    lines = []
    for text in map(printable, texts):
        indent = " " * _INDENT
        lines += wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
    return lines
