"""The tables as pictures: one bar per row, what the rival takes in terms of ours."""

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from .report import Table

FASTER, SLOWER = "#2a7f62", "#b5533c"


def draw(folder: Path, tables: Sequence[Table]) -> list[Path]:
    """Write a PNG for each table; bars to the right of 1 are in favour of the pools."""
    return [_draw(folder / f"{_slug(table.title)}.png", table) for table in tables if table.rows]


def _draw(path: Path, table: Table) -> Path:
    rows = table.rows[::-1]
    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.34 * len(rows)), layout="constrained")
    gains = [1 / row.ratio for row in rows]
    low = [max(0.0, gain - 1 / row.high) for gain, row in zip(gains, rows, strict=True)]
    high = [max(0.0, 1 / row.low - gain) for gain, row in zip(gains, rows, strict=True)]
    colours = [FASTER if gain >= 1 else SLOWER for gain in gains]
    places = range(len(rows))
    axes.barh(
        places, [gain - 1 for gain in gains], left=1, xerr=[low, high], color=colours, capsize=2
    )
    axes.set_xscale("log")
    axes.set_yticks(places, [f"{row.what}  against  {row.rival}" for row in rows], fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times faster (left of 1: slower)")
    axes.set_title(table.title, fontsize=10, loc="left")
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60]
