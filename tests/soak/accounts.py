"""The counters of the nodes against the truth of their tasks."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from bufpool_workers.memory import BufferPool
from bufpool_workers.metrics import make_registry
from bufpool_workers.settings import KINDS
from tests.soak import expected
from tests.support.scrape import Samples

Counters = dict[tuple[str, str, str], float]  # by field, pool and size label

# of the class that soft limits and revocations strike in, whose tasks may not come to note an end
_CUT_SHORT = 16 * 1024
# the key of sealed arguments is read through the smallest secure class
_KEYS = ("secure", 2048)


class Compared(NamedTuple):
    """Which counters are wrong, and of how many buffers it is not known whether they were lent.

    `lent` and `misses` leave out the class that limits strike in, which is lent by the million.
    """

    wrong: list[str]
    lent: float
    misses: float
    unsure: int
    unsure_cut_short: int


def read_counters(directories: Iterable[Path]) -> Counters:
    """Add up the counters of all directories."""
    sums: Counter[tuple[str, str, str]] = Counter()
    for directory in set(directories):
        for metric in make_registry(directory).collect():
            if metric.type == "counter":
                for sample in metric.samples:
                    field = metric.name.removeprefix("bufpool_")
                    if "size" in sample.labels:  # else it is no pool's
                        sums[field, sample.labels["pool"], sample.labels["size"]] += sample.value
    return dict(sums)


def scraped(samples: Samples, name: str) -> Counters:
    """Return what a scrape says under that name."""
    found = ((dict(pairs), value) for (its, *pairs), value in samples.items() if its == name)
    return {("", labels["pool"], labels["size"]): value for labels, value in found}


def compare(noted: dict[tuple[str, int, str], expected.Bounds], counters: Counters) -> Compared:
    """Return the counters that contradict the tasks, and for how many gets that is unsure."""
    wrong = []
    lent = missed = 0.0
    unsure: Counter[bool] = Counter()
    for kind, size, label in _classes():
        if (kind, size) == _KEYS:
            continue
        of = {
            event: noted.get((kind, size, event), expected.Bounds(0, 0))
            for event in expected.EVENTS
        }
        gets, hits, misses = (
            counters.get((field, kind, label), 0.0) for field in ("gets", "hits", "misses")
        )
        taken = of["gets"].begun - of["gets"].done
        unsure[size == _CUT_SHORT] += taken
        highest = {event: bounds.begun for event, bounds in of.items()}
        highest["puts"] += taken  # one that was interrupted as it was taken may be back
        if size != _CUT_SHORT:
            lent, missed = lent + gets, missed + misses
        else:
            highest["puts"] = of["gets"].begun
            highest["reclaims"] = of["gets"].begun - of["puts"].done
        for event, high in highest.items():
            found = counters.get((event, kind, label), 0.0)
            if not of[event].done <= found <= high:
                wrong.append(f"{event} of {kind} {label}: {found:g}, {of[event].done} to {high}")
        if hits + misses != gets:
            wrong.append(f"{kind} {label}: {hits:g} hits, {misses:g} misses, {gets:g} gets")
    return Compared(wrong, lent, missed, unsure[False], unsure[True])


def compare_in_use(folder: Path, pids: Collection[int], in_use: Counters) -> list[str]:
    """Return where a scrape has other buffers in use than the tasks of these processes keep."""
    kept: Counter[tuple[str, int]] = Counter()
    for pid in pids:
        for (kind, size, event), bounds in expected.read(folder, of=str(pid)).items():
            kept[kind, size] += {"gets": 1, "puts": -1}.get(event, 0) * bounds.done
    wrong = []
    for kind, size, label in _classes():
        has = 0 if size == _CUT_SHORT else kept[kind, size]
        says = in_use.get(("", kind, label), 0.0)
        if says != has:
            wrong.append(f"{kind} {label}: {says:g}, tasks keep {has}")
    return wrong


def _classes() -> list[tuple[str, int, str]]:
    pool = BufferPool("regular", size_classes=expected.SIZES, max_bytes=1, max_buffer_bytes=1)
    sizes = list(zip(expected.SIZES, pool.labels[:-1], strict=True))
    return [(kind, size, label) for kind in KINDS for size, label in sizes]
