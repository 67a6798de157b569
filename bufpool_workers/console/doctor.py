"""The doctor's findings on a terminal or in a pipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import wrap

from rich.text import Text

from bufpool_workers.console.terminal import make_console, printable
from bufpool_workers.diagnostics.finding import SEVERITIES, Finding

_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}
_INDENT = 9


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by severity; those of the same stay in their order."""
    return sorted(findings, key=lambda f: SEVERITIES.index(f.severity), reverse=True)


def show(findings: Sequence[Finding], *, no_color: bool, show_all: bool) -> None:
    """Print findings, the worst first, each with its level and name; then the numbers of each."""
    console = make_console(no_color=no_color)
    for finding in worst_first(findings):
        if finding.severity == "ok" and not show_all:
            continue
        first, *rest = _lines(finding, console.width)
        console.print(Text.assemble((first[:_INDENT], _STYLES[finding.severity]), first[_INDENT:]))
        for line in rest:
            console.print(Text(line))
        if finding.snippet:  # whole, for the terminal's user to copy
            console.print(Text(" " * _INDENT + finding.snippet, style="bold"), soft_wrap=True)
    counts = Counter(finding.severity for finding in findings)
    console.print(", ".join(f"{level} {counts[level]}" for level in reversed(SEVERITIES)))


def _lines(finding: Finding, width: int) -> list[str]:
    texts = [f"{finding.severity:{_INDENT}}{finding.check}: {finding.message}"]
    if finding.hint:
        texts.append(f"{'':{_INDENT}}-> {finding.hint}")
    lines = []
    for text in map(printable, texts):
        indent = " " * _INDENT
        lines += wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
    return lines
