"""The soak's report: a table, the same as JSON, and one picture."""

import importlib.util
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tests.soak.scenario import Outcome


def write(folder: Path, outcomes: list[Outcome], *, seconds: float) -> str:
    """Write report.md, report.json and, where matplotlib is there, report.png; gives the first."""
    text = _table(outcomes, seconds)
    (folder / "report.md").write_text(text)
    (folder / "report.json").write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    if importlib.util.find_spec("matplotlib"):
        from tests.soak.picture import draw  # noqa: PLC0415 - an extra that not everybody has

        draw(folder / "report.png", outcomes)
    return text


def _table(outcomes: list[Outcome], seconds: float) -> str:
    lines = [f"{seconds:g} seconds of load and faults on two nodes of two children each.", ""]
    lines += _row("", [f"two nodes, {one.layout}" for one in outcomes])
    lines += ["|" + "---|" * (1 + len(outcomes))]
    for name in outcomes[0].numbers:
        lines += _row(name, [f"{one.numbers[name]:,}" for one in outcomes])
    faults = [Counter(name for _, name in one.faults) for one in outcomes]
    for name in sorted(set().union(*faults)):
        lines += _row(f"fault: {name}", [str(count[name]) for count in faults])
    lines += [""]
    for one in outcomes:
        lines += [f"- {one.layout}: {remark}" for remark in one.remarks]
        for check in one.checks:
            word = "yes" if check.kept else "NO"
            lines += [f"- {one.layout}: {check.promise}: {word} ({check.found})"]
    return "\n".join(lines) + "\n"


def _row(name: str, cells: list[str]) -> list[str]:
    return [f"| {name} | {' | '.join(cells)} |"]
