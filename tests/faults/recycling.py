"""Children that end after each task: what their first task finds, and what grows meanwhile."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

from bufpool_workers.counters.format import HEADER, unpack_entries
from tests.faults.node import Node

ONE_TASK = ("--max-tasks-per-child=1",)
NOT_IN_TIME = ("was over; the rest is mapped", "Timed out waiting for UP message")


@dataclass(frozen=True)
class Sample:
    """The node when so many children have run their task.

    `files_bytes` and `files_entries` are what a scrape has to read, `merged_` those of the dead.
    """

    children: int
    descriptors: int
    rss_kib: int
    metric_files: int
    files_bytes: int
    files_entries: int
    merged_bytes: int
    merged_entries: int
    scrape_ms: float


def recycle(node: Node, *, children: int, every: int) -> tuple[list[Sample], list[dict[str, Any]]]:
    """Run one task in each of so many children: a sample after each `every`, what each found."""
    samples: list[Sample] = []
    found: list[dict[str, Any]] = []
    while len(found) < children:
        sent = [node.worker.send("fault_app.first_look") for _ in range(every)]
        found += [node.worker.result(each) for each in sent]
        samples.append(_sample(node, len(found)))
    return samples, found


def _sample(node: Node, children: int) -> Sample:
    began = time.perf_counter()
    node.scrape()
    scrape_ms = (time.perf_counter() - began) * 1000
    main = psutil.Process(node.worker.pid)
    files = {path.name: path.read_bytes() for path in node.directory.glob("*.db")}
    merged = [data for name, data in files.items() if "merged" in name]
    return Sample(
        children=children,
        descriptors=main.num_fds(),
        rss_kib=main.memory_info().rss // 1024,
        metric_files=len(files),
        files_bytes=sum(map(len, files.values())),
        files_entries=sum(map(_entries, files.values())),
        merged_bytes=sum(map(len, merged)),
        merged_entries=sum(map(_entries, merged)),
        scrape_ms=round(scrape_ms, 2),
    )


def _entries(data: bytes) -> int:
    (used,) = HEADER.unpack_from(data)
    return sum(1 for _ in unpack_entries(data, start=HEADER.size, end=used))


def growth(series: Sequence[float]) -> float:
    """Return how much a series grows, from the median of its first third to that of its last."""
    third = max(len(series) // 3, 1)
    return median(series[-third:]) - median(series[:third])


def check(node: Node, samples: Sequence[Sample], found: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is wrong with a run, in words; nothing if all were warm and nothing grew."""
    faults = []
    cold = [child for child in found if child["gets"] or child["misses_after"]]
    if cold:
        faults.append(f"{len(cold)} of {len(found)} children were cold, the first: {cold[0]}")
    log = node.worker.log()
    faults += [f"in the log: {words!r}" for words in NOT_IN_TIME if words in log]
    if node.totals() != node.truth():
        faults.append(f"totals {node.totals()}, the tasks say {node.truth()}")
    most = max(sample.metric_files for sample in samples)
    if most > _most_files(node):
        faults.append(f"{most} metric files, at most {_most_files(node)} are of the living")
    faults += [
        f"{name} grew by {grown:g}, at most {most_growth:g} are allowed"
        for name, most_growth in _most_growth(node, samples[0]).items()
        if (grown := growth([getattr(sample, name) for sample in samples])) > most_growth
    ]
    return faults


def _most_growth(node: Node, first: Sample) -> dict[str, float]:
    """Of main and of the files; some go up and down with the children that are being replaced."""
    return {
        "descriptors": node.concurrency,
        "rss_kib": 2048,
        "files_bytes": node.concurrency * first.files_bytes / first.metric_files,
        "files_entries": node.concurrency * first.files_entries / first.metric_files,
        "merged_bytes": 0,
        "merged_entries": 0,
    }


def _most_files(node: Node) -> int:
    """One for each child, for each that is just ending, and for main and the dead together."""
    return 2 * node.concurrency + 2
