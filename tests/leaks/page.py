"""The recorded scans, and the tables of the page that show them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("record.json")


def recorded() -> dict[str, Any]:
    """Return what `make leaks` recorded."""
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def show(found: dict[str, Any]) -> str:
    """Return all three tables as text."""
    return "\n\n".join("\n".join(lines(found)) for lines in (_after, _in_use, _on_the_way))


def after_tasks() -> Iterator[str]:
    """Return the lines of the table of secrets that are found after their tasks."""
    return _after(recorded())


def in_use() -> Iterator[str]:
    """Return the lines of the table of readers that find a secret in use."""
    return _in_use(recorded())


def on_the_way() -> Iterator[str]:
    """Return the lines of the table of copies that are found on a secret's way."""
    return _on_the_way(recorded())


def _after(found: dict[str, Any]) -> Iterator[str]:
    return _table("", found["after their tasks"])


def _in_use(found: dict[str, Any]) -> Iterator[str]:
    return _table("", found["in use"])


def _on_the_way(found: dict[str, Any]) -> Iterator[str]:
    columns = found["on the way"]
    places = dict.fromkeys(place for column in columns.values() for place in column)
    rows = {p: {name: column.get(p, "") for name, column in columns.items()} for p in places}
    return _table("copies found in", rows)


def _table(corner: str, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    heads = list(next(iter(rows.values())))
    yield _line(corner, heads)
    yield "|" + "---|" * (1 + len(heads))
    for name, cells in rows.items():
        yield _line(name, [cells[head] for head in heads])


def _line(name: str, cells: Sequence[object]) -> str:
    return f"| {name} | {' | '.join(map(str, cells))} |"
