"""What the traffic says about `bufpool_warm` and `bufpool_max_bytes`.

A process's warm levels fit a size when no get has to map memory. How many buffers a process needs
at once is not counted; but what it mapped beyond its warm level stays with it until a trim, so the
need of a process lies between its warm level and what it holds or, if it was trimmed meanwhile, has
mapped between two trims. The suggestion is the largest need of a living process, rounded up by the
block of slots that one miss maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil

from bufpool_workers.metrics import Numbers, ProcessReport, Report
from bufpool_workers.metrics.catalog import label_bytes
from bufpool_workers.settings import KINDS, MiB, Settings, format_size
from bufpool_workers.worker.findings import Finding, ok

ENOUGH_GETS = 1000
GOOD_RATE = 99.9
_LARGER = "larger"


def check_sizing(reports: Sequence[Report], settings: Settings) -> Iterator[Finding]:
    """Say for each pool whether its warm levels fit its traffic, and suggest others."""
    for kind in KINDS:
        pools = [report.pools[kind] for report in reports if kind in report.pools]
        total = sum((pool.total for pool in pools), Numbers())
        check = f"sizing_{kind}"
        if total.gets < ENOUGH_GETS:
            yield Finding(
                "note",
                check,
                f"{kind}: not enough traffic to tell: {total.gets} gets, {ENOUGH_GETS} are needed",
            )
            continue
        sizes: dict[str, Numbers] = {}
        for pool in pools:
            for label, numbers in pool.sizes.items():
                sizes[label] = sizes.get(label, Numbers()) + numbers
        processes = [process for report in reports for process in report.processes]
        levels = suggest(kind, sizes, processes, settings)
        yield _compare(kind, levels, sizes, settings)
        yield from _check_cap(kind, levels, total, settings)
        yield from _check_larger(kind, sizes.get(_LARGER, Numbers()), settings)


def suggest(
    kind: str,
    sizes: Mapping[str, Numbers],
    processes: Sequence[ProcessReport],
    settings: Settings,
) -> dict[int, int]:
    """Give the warm level of each size that a pool of this kind uses: buffers by bytes."""
    levels = {}
    for label, numbers in sizes.items():
        size = label_bytes(label)
        if size in settings.size_classes and numbers.gets:
            warm = settings.warm[kind].get(size, 0)
            levels[size] = warm
            if (numbers.hit_rate or 0) < GOOD_RATE:
                needs = (_need(process, kind, label, size, settings) for process in processes)
                levels[size] = max(warm, *needs, 1)
    return dict(sorted(levels.items()))


def _need(process: ProcessReport, kind: str, label: str, size: int, settings: Settings) -> int:
    """Estimate how many buffers of a size the process needs at once."""
    warm = settings.warm[kind].get(size, 0)
    if kind not in process.pools or label not in process.pools[kind].sizes:
        return 0
    numbers = process.pools[kind].sizes[label]
    trims = 1 + process.age_seconds / max(settings.trim_after_seconds, 1.0)
    mapped = numbers.bytes_allocated // size - numbers.discards
    grown = warm + ceil(max(mapped - warm, 0) / trims)
    return max(numbers.held_bytes // size, grown)


def _compare(
    kind: str, levels: Mapping[int, int], sizes: Mapping[str, Numbers], settings: Settings
) -> Finding:
    total = sum(sizes.values(), Numbers())
    shown = f"{kind}: {total.hit_rate or 0:.2f} % of {total.gets} gets were hits"
    before = {size: count for size, count in settings.warm[kind].items() if count}
    check = f"sizing_{kind}"
    if levels == before:
        return ok(check, f"{shown}; bufpool_warm fits")
    unused = [format_size(size) for size in before if size not in levels]
    raised = [format_size(size) for size in levels if levels[size] > before.get(size, 0)]
    parts = [shown]
    if raised:
        parts.append(f"more of {', '.join(raised)} are needed at once than are warm")
    if unused:
        parts.append(f"nobody asks for {', '.join(unused)}")
    return Finding(
        "warning" if raised else "note",
        check,
        "; ".join(parts),
        "set it for this pool (the other ones keep theirs)",
        _warm_line(kind, levels),
    )


def _check_cap(
    kind: str, levels: Mapping[int, int], total: Numbers, settings: Settings
) -> Iterator[Finding]:
    cap = settings.max_bytes[kind]
    needed = sum(size * count for size, count in levels.items())
    if not total.limit_hits and needed <= cap:
        return
    enough = 2 * cap if total.limit_hits else cap
    enough = ceil(max(enough, needed * 5 / 4) / MiB) * MiB
    yield Finding(
        "warning",
        f"limit_{kind}",
        f"{kind}: {total.limit_hits} requests met the cap, {format_size(cap)} in each process, and "
        f"{needed} bytes are to be warm",
        "hold fewer buffers at once, or raise it as far as the memory of all processes allows",
        f'app.conf.bufpool_max_bytes = {{"{kind}": "{format_size(enough)}"}}',
    )


def _check_larger(kind: str, numbers: Numbers, settings: Settings) -> Iterator[Finding]:
    if not numbers.misses:
        return
    average = ceil(numbers.bytes_allocated / numbers.misses / MiB)
    largest = format_size(settings.size_classes[-1])
    yield Finding(
        "note",
        f"larger_{kind}",
        f"{kind}: {numbers.misses} requests above the largest size, {largest}, were mapped for one "
        f"use each; {average} MiB on average",
        "add their size to bufpool_size_classes, if they come often",
    )


def _warm_line(kind: str, levels: Mapping[int, int]) -> str:
    text = ", ".join(f'"{format_size(size)}": {count}' for size, count in levels.items())
    return f'app.conf.bufpool_warm = {{"{kind}": {{{text}}}}}'
