"""Suggestions for `bufpool_warm` and `bufpool_max_bytes` from the traffic.

A process's warm levels fit a size when no get has to map memory. How many buffers a process needs
at once is not counted; but what it mapped beyond its warm level stays with it until a trim, so the
need of a process lies between its warm level and what it holds or, if it was trimmed meanwhile, has
mapped between two trims. The suggestion is the largest need of a living process, rounded up by the
block of slots that one miss maps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from bufpool_workers.counters.report import ProcessReport, Report
from bufpool_workers.diagnostics.finding import SEVERITIES, Finding, ok
from bufpool_workers.pool_stats import KINDS, PoolStats
from bufpool_workers.settings import MAX_BYTES, WARM, Settings
from bufpool_workers.units import MiB, format_bytes, format_size, label_bytes

ENOUGH_GETS = 1000
GOOD_RATE = 99.9
_LARGER = "larger"


def check_sizing(reports: Sequence[Report], settings: Settings) -> list[Finding]:
    """Compare each pool's warm levels with its traffic, and suggest others.

    A line to paste is for all pools, since an assignment replaces what was set for the other
    ones: it comes once, with the worst finding that it is for.
    """
    findings = list(_check(reports, settings))
    order = sorted(findings, key=lambda f: SEVERITIES.index(f.severity), reverse=True)
    first = {f.snippet: f for f in reversed(order)}
    return [
        f._replace(snippet="", hint=f"as in {first[f.snippet].check}")
        if f.snippet and first[f.snippet] is not f
        else f
        for f in findings
    ]


def _check(reports: Sequence[Report], settings: Settings) -> Iterator[Finding]:
    processes = [process for report in reports for process in report.processes]
    traffic = {kind: _traffic(reports, kind) for kind in KINDS}
    warm: dict[str, Mapping[int, int]] = {}
    caps: dict[str, int] = {}
    for kind, pool in traffic.items():
        if pool.gets >= ENOUGH_GETS:
            warm[kind] = _suggest(kind, pool, processes, settings)
            caps[kind] = _enough(warm[kind], pool, settings.max_bytes[kind])
    warm_line = _line("bufpool_warm", {**settings.warm, **warm}, WARM, _write_levels)
    caps_line = _line("bufpool_max_bytes", {**settings.max_bytes, **caps}, MAX_BYTES, format_size)
    for kind, pool in traffic.items():
        if kind in warm:
            yield _compare(kind, warm[kind], pool, settings, warm_line)
            yield from _check_cap(kind, warm[kind], pool, settings, caps_line)
            yield from _check_larger(kind, pool.sizes.get(_LARGER, PoolStats()), settings)
        else:
            yield Finding(
                "note",
                f"sizing_{kind}",
                f"{kind}: not enough traffic to tell: {pool.gets} gets, {ENOUGH_GETS} are needed",
            )


def _traffic(reports: Sequence[Report], kind: str) -> PoolStats:
    """Add up what the nodes' pools of a kind counted."""
    pools = (report.pools[kind] for report in reports if kind in report.pools)
    return sum(pools, PoolStats())


def _suggest(
    kind: str,
    pool: PoolStats,
    processes: Sequence[ProcessReport],
    settings: Settings,
) -> dict[int, int]:
    """Return the warm level of each size that a pool of this kind uses: buffers by bytes."""
    levels = {}
    for label, numbers in pool.sizes.items():
        size = label_bytes(label)
        if size in settings.size_classes and numbers.gets:
            warm = settings.warm[kind].get(size, 0)
            levels[size] = warm
            if (numbers.hit_rate or 0) < GOOD_RATE:
                needs = (_need(process, kind, label, size, settings) for process in processes)
                levels[size] = max(warm, *needs, 1)
    return {size: count for size, count in sorted(levels.items()) if count}


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
    kind: str,
    levels: Mapping[int, int],
    pool: PoolStats,
    settings: Settings,
    line: str,
) -> Finding:
    shown = f"{kind}: {pool.hit_rate or 0:.2f} % of {pool.gets} gets were hits"
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
        parts.append(f"no task asks for {', '.join(unused)}")
    return Finding(
        "warning" if raised else "note",
        check,
        "; ".join(parts),
        "set it: one line for all pools",
        line,
    )


def _enough(levels: Mapping[int, int], pool: PoolStats, cap: int) -> int:
    """Return a cap that is enough for the levels and the traffic: the present one, if it is."""
    needed = _bytes(levels)
    if not pool.limit_hits and needed <= cap:
        return cap
    return ceil(max(2 * cap if pool.limit_hits else cap, needed * 5 / 4) / MiB) * MiB


def _check_cap(
    kind: str,
    levels: Mapping[int, int],
    pool: PoolStats,
    settings: Settings,
    line: str,
) -> Iterator[Finding]:
    cap = settings.max_bytes[kind]
    if _enough(levels, pool, cap) == cap:
        return
    yield Finding(
        "warning",
        f"limit_{kind}",
        f"{kind}: {pool.limit_hits} requests met the cap, {format_size(cap)} in each "
        f"process, and {format_bytes(_bytes(levels))} are to be warm",
        "hold fewer buffers at once, or raise it as far as the memory of all processes allows",
        line,
    )


def _bytes(levels: Mapping[int, int]) -> int:
    return sum(size * count for size, count in levels.items())


def _check_larger(kind: str, numbers: PoolStats, settings: Settings) -> Iterator[Finding]:
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


def _line(
    name: str, values: Mapping[str, Any], defaults: Mapping[str, Any], write: Callable[[Any], Any]
) -> str:
    """Write the line that sets what differs from the defaults, which fill in what is left out."""
    given = {kind: write(values[kind]) for kind in KINDS if values[kind] != defaults[kind]}
    return f"app.conf.{name} = {json.dumps(given)}"


def _write_levels(levels: Mapping[int, int]) -> dict[str, int]:
    return {format_size(size): count for size, count in levels.items()}
