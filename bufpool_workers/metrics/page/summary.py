"""A node at a glance: a tile for each of its main numbers, with what they did in the last hour."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from bufpool_workers.counters.report import Report
from bufpool_workers.diagnostics.problems import unseal_failures_in_words
from bufpool_workers.diagnostics.trends import course, recent_rates
from bufpool_workers.metrics.page.html import bar, element, spark
from bufpool_workers.pool_stats import PROTECTION, PoolStats
from bufpool_workers.units import (
    format_age,
    format_bytes,
    format_count,
    format_percentage,
    format_rate,
)


class _Tile(NamedTuple):
    name: str
    value: str
    note: str
    drawing: Sequence[Element] = ()


def show_summary(report: Report) -> Element:
    """Draw the tiles of a node's report."""
    tiles = (*_processes(report), *_traffic(report), *_memory(report), *_unsealed(report))
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", tile.name),
                element("dd", tile.value, class_="value"),
                element("dd", *tile.drawing, tile.note, class_="note"),
            )
            for tile in tiles
        ),
        class_="tiles",
    )


def _processes(report: Report) -> Iterator[_Tile]:
    total, count = report.total, len(report.processes)
    warm = "all warm" if report.warmed_processes == count else f"{report.warmed_processes} warm"
    yield _Tile("Processes", format_count(count), warm if count else "none counts here")
    held = f"{format_count(total.in_use + total.idle)} held, {format_count(total.idle)} idle"
    yield _Tile("Buffers in use", format_count(total.in_use), held, [use_bar(total)])


def _traffic(report: Report) -> Iterator[_Tile]:
    """Yield the rates of the last minutes, or of all time while there are none."""
    total, rates = report.total, recent_rates(report)
    gets, hits, _ = course(report)
    so_far, ago = format_count(total.gets), f"last {format_age(rates.seconds)}" if rates else ""
    if rates:
        value, note = format_rate(rates.gets_per_second), f"{ago}; {so_far} so far"
    else:
        value, note = so_far, "so far"
    yield _Tile("Gets", value, note, _line(gets, "use"))
    rate, note = rates.hit_rate if rates else None, f"{so_far} gets so far"
    if rate is None:
        rate = total.hit_rate
    else:
        note = f"{ago}; {format_percentage(total.hit_rate)} in all"
    drawing = [rate_bar(rate), *_line(hits, "rate")]
    yield _Tile("Hit rate", format_percentage(rate), note, drawing)
    efficiency = total.reuse_efficiency
    served = (
        f"{format_bytes(total.bytes_reused)} reused, {format_bytes(total.bytes_allocated)} mapped"
    )
    yield _Tile("Reuse efficiency", format_percentage(efficiency), served, [rate_bar(efficiency)])


def _memory(report: Report) -> Iterator[_Tile]:
    _, _, held = course(report)
    locked, level = f"{format_bytes(report.locked_bytes)} locked", report.secure_level
    yield _Tile("Memory held", format_bytes(report.total.held_bytes), locked, _line(held, "use"))
    protection = PROTECTION.get(level or "", "no process holds any")
    yield _Tile("Secure memory", level or "none yet", protection)


def _unsealed(report: Report) -> Iterator[_Tile]:
    failed = sum(report.unseal_failures.values())
    if report.unsealed or report.unseal_failures:
        not_opened = f"; {format_count(failed)} not: {unseal_failures_in_words(report)}"
        note = f"opened{not_opened if failed else ''}"
        yield _Tile("Sealed arguments", format_count(report.unsealed), note)


def _line(values: Sequence[float | None], class_: str) -> list[Element]:
    several = sum(value is not None for value in values) > 1
    return [spark(values, class_=class_)] if several else []


def use_bar(numbers: PoolStats) -> Element:
    """Draw how much of what is held is in use."""
    held = numbers.in_use + numbers.idle
    return bar(("use", numbers.in_use / held if held else 0.0))


def rate_bar(percentage: float | None) -> Element:
    """Draw a percentage; an empty bar before there is one."""
    return bar(("rate", (percentage or 0.0) / 100))
