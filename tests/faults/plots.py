"""The picture of a long run of children: what the node held while they came and went."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from tests.faults.recycling import Sample

mpl.use("Agg")
from matplotlib import pyplot as plt

PANELS = (
    ("descriptors", "file descriptors of main", 1),
    ("rss_kib", "RSS of main, MiB", 1 / 1024),
    ("metric_files", "metric files", 1),
    ("files_bytes", "bytes that a scrape reads, KiB", 1 / 1024),
    ("files_entries", "entries that a scrape reads", 1),
    ("scrape_ms", "time of a scrape, ms", 1),
)


def draw(path: Path, samples: Sequence[Sample], *, title: str) -> None:
    """Write a PNG: one panel for each series over the number of children, each from zero."""
    figure, panels = plt.subplots(2, 3, figsize=(11, 5.4), sharex=True, layout="constrained")
    children = [sample.children for sample in samples]
    for axes, (name, label, unit) in zip(panels.flat, PANELS, strict=True):
        numbers = [getattr(sample, name) * unit for sample in samples]
        axes.plot(children, numbers, color="#2a6f9e", linewidth=1.2)
        axes.set_title(label, loc="left", fontsize=10)
        axes.set_ylim(0, 1.25 * max(numbers))
        axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("children that have run their one task")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.savefig(path, dpi=110)
    plt.close(figure)
