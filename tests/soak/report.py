"""The soak's report: a table, the same as JSON, and one picture."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.soak import page
from tests.soak.scenario import Outcome


def write(folder: Path, outcomes: list[Outcome], *, seconds: float) -> str:
    """Write the report and its record, with a picture where matplotlib is; return its text."""
    text = "\n".join(_lines(outcomes, seconds)) + "\n"
    (folder / "report.md").write_text(text)
    (folder / "report.json").write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    record = page.summary(outcomes, seconds=seconds)
    (folder / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    if importlib.util.find_spec("matplotlib"):
        from tests.soak.picture import draw  # noqa: PLC0415 - an extra that not everybody has

        draw(folder / "record.png", outcomes)
    return text


def _lines(outcomes: list[Outcome], seconds: float) -> Iterator[str]:
    yield from (f"{seconds:g} seconds of load and faults on two nodes of two children each.", "")
    yield from (*page.lines(page.summary(outcomes, seconds=seconds)), "")
    for one in outcomes:
        for remark in one.remarks:
            yield f"- {one.layout}: {remark}"
        for check in one.checks:
            word = "yes" if check.kept else "NO"
            yield f"- {one.layout}: {check.promise}: {word} ({check.found})"
