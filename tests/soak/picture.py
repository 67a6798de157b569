"""The soak as one picture: six curves over time, a line for each fault."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.soak.faults import NAMES
from tests.soak.scenario import Outcome

_SHADES = (
    *("#c44e52", "#8c1c13", "#dd8452", "#937860", "#64513f"),
    *("#4c72b0", "#1b3a6b", "#8172b3", "#55a868"),
)
_COLOURS = dict(zip(NAMES, _SHADES, strict=True))
_WINDOW = 4


def draw(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the PNG."""
    figure, axes = plt.subplots(7, 1, figsize=(9, 11), sharex=True, layout="constrained")
    for one in outcomes:
        series = one.series
        at = series.seconds
        _curve(axes[0], at[_WINDOW:], _rate(at, series.ended), "tasks/s")
        _curve(axes[1], at, series.hit_rate, "hits in 100 gets")
        _curve(axes[2], at, [n / 2**20 for n in series.rss_bytes], "RSS, MiB")
        _curve(axes[3], at, series.fds, "fds of main")
        _curve(axes[4], at, series.files, "metrics files")
        _curve(axes[5], at, [n and 1000 * n for n in series.scrape_seconds], "scrape, ms")
        for second, name in one.faults:
            axes[6].plot(second, list(_COLOURS).index(name), "|", color=_COLOURS[name], ms=9, mew=2)
            for other in axes[:6]:
                other.axvline(second, color=_COLOURS[name], alpha=0.45, linewidth=0.7)
    for one_axes in axes[:6]:
        one_axes.set_ylim(bottom=0)
    axes[1].set_ylim(0, 102)
    axes[6].set_yticks(range(len(_COLOURS)), list(_COLOURS), fontsize=7)
    axes[6].set_ylim(-0.7, len(_COLOURS) - 0.3)
    axes[6].set_xlabel("seconds")
    axes[0].set_title(
        "two nodes under load and faults: " + ", then ".join(one.layout for one in outcomes),
        loc="left",
        fontsize=10,
    )
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _curve(axes: Axes, at: Sequence[float], values: Sequence[float | None], name: str) -> None:
    axes.plot(at, [float("nan") if v is None else v for v in values], color="#333333", linewidth=1)
    axes.set_ylabel(name, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.01)


def _rate(at: Sequence[float], ended: Sequence[int]) -> list[float | None]:
    spans = zip(at, at[_WINDOW:], strict=False)
    counts = zip(ended, ended[_WINDOW:], strict=False)
    return [
        (after - before) / (end - begin)
        for (begin, end), (before, after) in zip(spans, counts, strict=False)
    ]
