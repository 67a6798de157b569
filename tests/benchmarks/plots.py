"""Three pictures: lending by size, what tasks gain, a scrape as processes come and go.

Text and lines are of a middle grey on no background, so that they can be read on white and on
black alike.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bufpool_workers.settings import format_size
from tests.benchmarks.report import Row, Table, duration

INK, FAINT = "#7d7d7d", "#7d7d7d55"
OURS = "#1f9d78"
OTHERS = ("#4a8fd0", "#b07cc6", "#c9912c", "#d0643f", "#7d7d7d")
STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.dpi": 110,
    "figure.figsize": (8, 4.4),
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

# of many rivals, those that a picture has room for
LENDING_RIVALS = ("bytearray", "mmap", "pyarrow's pool", "LifoQueue", "@contextmanager pool")
GAIN_TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32)


def draw(folder: Path, tables: Sequence[Table]) -> list[Path]:
    """Write the pictures that these tables have figures for."""
    written = []
    for name, (draws, sources) in PICTURES.items():
        rows = [row for table in tables if table.name in sources for row in table.rows]
        if rows:
            written.append(folder / f"{name}.png")
            with plt.rc_context(STYLE):
                figure, axes = plt.subplots()
                draws(axes, rows)
                figure.savefig(written[-1])
                plt.close(figure)
    return written


def lending(axes: Axes, rows: Sequence[Row]) -> None:
    """Time against size; the lines of rivals, and ours below or above them."""
    sizes = _line(axes, "with buffer(n)", OURS, ((row.at, row.value) for row in rows), width=2.6)
    for rival, colour in zip(LENDING_RIVALS, OTHERS, strict=True):
        points = ((row.at, row.rival_value) for row in rows if row.rival == rival)
        _line(axes, rival, colour, points)
    axes.set_title("Memory taken and given back, one at a time")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: format_size(int(n))))
    axes.set_xlabel("size")
    _time_axis(axes)
    axes.legend(ncols=2, loc="upper left")


def gains(axes: Axes, rows: Sequence[Row]) -> None:
    """Bars from 1, one for each rival: to its right what pools make faster, else slower."""
    works = list(dict.fromkeys(row.what for row in rows))[::-1]
    rivals = list(dict.fromkeys(row.rival for row in rows))
    axes.figure.set_size_inches(8, 1.3 + 0.36 * len(works))
    height = 0.8 / len(rivals)
    for at, rival in enumerate(rivals):
        mine = [row for row in rows if row.rival == rival]
        places = [works.index(row.what) + 0.4 - (at + 0.5) * height for row in mine]
        faster = [1 / row.ratio for row in mine]
        axes.barh(
            places, [gain - 1 for gain in faster], height, left=1, color=OTHERS[at], label=rival
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(GAIN_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    axes.set_yticks(range(len(works)), works)
    axes.margins(y=0.02)
    axes.grid(visible=False, axis="y")
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_title("Tasks' work in pooled buffers, against other styles")
    axes.set_xlabel("times as fast (left of 1: slower), log scale")
    axes.legend(title="against", title_fontsize=9, loc="lower right")


def scrapes(axes: Axes, rows: Sequence[Row]) -> None:
    """Time of a scrape against the processes that are gone, for each number of living ones."""
    styles = {}
    for row in rows:
        styles.setdefault(row.what.partition(",")[0], ("-", "--", ":")[len(styles) % 3])
    for living, style in styles.items():
        mine = [row for row in rows if row.what.startswith(living)]
        for name, colour, points in (
            ("prometheus_client", OTHERS[3], [(row.at, row.rival_value) for row in mine]),
            ("bufpool_workers", OURS, [(row.at, row.value) for row in mine]),
        ):
            _line(axes, f"{name}, {living}", colour, points, style=style)
    axes.set_title("One scrape, as worker processes come and go")
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:.0f}"))
    axes.set_xlabel("processes that ended before it")
    _time_axis(axes)
    axes.legend(loc="upper left")


def _line(  # noqa: PLR0913 - the look by keyword
    axes: Axes,
    name: str,
    colour: str,
    points: Iterable[tuple[int | None, float]],
    *,
    width: float = 1.4,
    style: str = "-",
) -> list[int]:
    """Draw one; gives where its points are."""
    by_place = {at: value for at, value in points if at is not None}
    places = sorted(by_place)
    values = [by_place[at] for at in places]
    axes.plot(
        places, values, style, label=name, color=colour, linewidth=width, marker="o", markersize=3
    )
    return places


def _time_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: duration(seconds)))
    axes.set_ylabel("time")


Draws = Callable[[Axes, Sequence[Row]], None]
PICTURES: dict[str, tuple[Draws, tuple[str, ...]]] = {
    "lending": (lending, ("lending",)),
    "gains": (gains, ("pipeline", "work")),
    "scrapes": (scrapes, ("scrapes",)),
}
