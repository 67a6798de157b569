"""The recorded soak, and the table of the page that shows it."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.soak.scenario import Outcome

RECORD = Path(__file__).with_name("record.json")


def recorded() -> dict[str, Any]:
    """Return what a soak recorded."""
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def table() -> Iterator[str]:
    """Return the lines of the recorded soak's table."""
    return lines(recorded())


def summary(outcomes: Sequence[Outcome], *, seconds: float) -> dict[str, Any]:
    """Return what a record keeps of a soak."""
    return {"seconds": seconds, "layouts": {one.layout: _numbers(one) for one in outcomes}}


def lines(record: dict[str, Any]) -> Iterator[str]:
    """Return the lines of a table: a row for each number, a column for each layout."""
    layouts = record["layouts"]
    yield f"| | {' | '.join(layouts)} |"
    yield "|---" + "|---:" * len(layouts) + "|"
    for name in dict.fromkeys(name for numbers in layouts.values() for name in numbers):
        cells = (_shown(numbers.get(name, 0)) for numbers in layouts.values())
        yield f"| {name} | {' | '.join(cells)} |"


def _numbers(one: Outcome) -> dict[str, int | str]:
    faults = Counter(name for _, name in one.faults)
    return {
        **one.numbers,
        **{f"fault: {name}": faults[name] for name in sorted(faults)},
        **{check.promise: "yes" if check.kept else "NO" for check in one.checks},
    }


def _shown(number: int | str) -> str:
    return number if isinstance(number, str) else f"{number:,}"
