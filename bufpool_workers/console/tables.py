"""Nodes drawn for a terminal: the same words and numbers in a pipe, without colour or lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bufpool_workers.console.course import Course
from bufpool_workers.console.terminal import (
    human_age,
    human_bytes,
    level_style,
    new_table,
    percent,
    printable,
    rate_style,
)
from bufpool_workers.counters.node_file import NodeInfo
from bufpool_workers.counters.report import ProcessReport, Report
from bufpool_workers.diagnostics.nodes import Node
from bufpool_workers.diagnostics.problems import PROBLEMS, sentence, unseal_failures_in_words
from bufpool_workers.diagnostics.trends import see_problems
from bufpool_workers.pool_stats import PoolStats, TaskStats


def draw_node(node: Node, *, before: Report | None = None) -> RenderableType:
    """Draw a node; with the report `before` what happens in a second, and only where it does."""
    report = node.report
    parts: list[RenderableType] = [_headline(node)]
    if not before:
        parts += [Text(printable(line)) for line in _nodes(report)]
        if report.history is not None:
            parts.append(Course(report))
    pools = _pools(report, before)
    if pools.row_count:
        parts += ["", pools]
    if report.tasks and not before:
        parts += ["", _tasks(report.tasks)]
    if report.processes:
        parts += ["", _processes(report.processes, live=before is not None)]
    notes = [
        *(() if before else _problems(report)),
        *_troubles(report),
        *_unsealed(report),
        *(f"escaped {its.pool} {its.place}: {its.escapes}" for its in report.escape_places),
        *(f"skipped {name}: {reason}" for name, reason in report.skipped.items()),
    ]
    if notes:
        parts += ["", *(Text(printable(note), style="yellow") for note in notes)]
    return Group(*parts)


def _headline(node: Node) -> Text:
    report = node.report
    total, processes = report.total, len(report.processes)
    cold = processes - report.warmed_processes
    line = Text(printable(node.name), style="bold")
    rest = (
        (f"{processes} {'process' if processes == 1 else 'processes'}", ""),
        (f"{report.warmed_processes} warm", "yellow" if cold else ""),
        (f"hit rate {percent(total.hit_rate)}", rate_style(total.hit_rate)),
        (f"reuse efficiency {percent(total.reuse_efficiency)}", ""),
        (f"{total.in_use} in use", ""),
        (f"{human_bytes(total.held_bytes)} held", ""),
        (f"{human_bytes(report.locked_bytes)} locked", ""),
        (f"secure level {report.secure_level or '-'}", level_style(report.secure_level)),
    )
    for number, (text, style) in enumerate(rest):
        line.append(", " if number else ": ", style="not bold")
        line.append(text, style=f"not bold {style}".strip())
    return line


_ONCE = ("gets", "misses", "hit_rate", "in_use", "idle", "held")
_LIVE = ("gets_s", "hit_rate", "in_use", "misses_s", "held", "gets")  # a narrow one cuts the last


def _pools(report: Report, before: Report | None) -> Table:
    columns = _LIVE if before else _ONCE
    table = new_table("pool", "size", numbers=columns)
    for pool, size, numbers in _rows(report):
        if before and not numbers.gets:
            continue  # what is merely warm would fill the screen
        cells: dict[str, str | Text] = {
            "gets": str(numbers.gets),
            "misses": str(numbers.misses),
            "hit_rate": Text(percent(numbers.hit_rate), style=rate_style(numbers.hit_rate)),
            "in_use": str(numbers.in_use),
            "idle": str(numbers.idle),
            "held": human_bytes(numbers.held_bytes),
        }
        if before:
            cells |= _rates(report, before, pool, size, numbers)
        table.add_row(
            printable(pool),
            printable(size),
            *(cells[name] for name in columns),
            style="bold" if size == "all" else "",
        )
    return table


def _rows(report: Report) -> Iterator[tuple[str, str, PoolStats]]:
    for name, pool in report.pools.items():
        if pool:
            yield name, "all", pool
            for size, numbers in pool.sizes.items():
                if numbers:
                    yield name, size, numbers


def _rates(
    report: Report, before: Report, pool: str, size: str, numbers: PoolStats
) -> dict[str, str]:
    then = PoolStats()
    if pool in before.pools:
        old = before.pools[pool]
        then = old if size == "all" else old.sizes.get(size, then)
    seconds = report.unix_seconds - before.unix_seconds
    if seconds <= 0:
        return {"gets_s": "-", "misses_s": "-"}
    pairs = {"gets_s": numbers.gets - then.gets, "misses_s": numbers.misses - then.misses}
    # a node that was restarted counts from zero
    return {name: f"{max(more, 0) / seconds:.1f}" for name, more in pairs.items()}


_PROCESS = (("pid", "age", "warm", "secure"), ("gets", "hit_rate", "in_use", "held", "locked"))
_LIVE_PROCESS = (("pid", "warm"), ("hit_rate", "in_use", "held", "gets", "locked", "age", "secure"))


def _processes(processes: tuple[ProcessReport, ...], *, live: bool) -> Table:
    words, numbers = _LIVE_PROCESS if live else _PROCESS
    table = new_table(*words, numbers=numbers)
    for process in sorted(processes, key=lambda process: -process.age_seconds):
        total = process.total
        cells: dict[str, str | Text] = {
            "pid": str(process.pid),
            "age": human_age(process.age_seconds),
            "warm": Text("yes") if process.warmed else Text("no", style="yellow"),
            "secure": Text(process.secure_level or "-", style=level_style(process.secure_level)),
            "gets": str(total.gets),
            "hit_rate": Text(percent(total.hit_rate), style=rate_style(total.hit_rate)),
            "in_use": str(total.in_use),
            "held": human_bytes(total.held_bytes),
            "locked": human_bytes(process.locked_bytes),
        }
        table.add_row(*(cells[name] for name in (*words, *numbers)))
    return table


def _tasks(tasks: Mapping[str, TaskStats]) -> Table:
    table = new_table("task", numbers=("gets", "peak", "escapes", "reclaims"))
    for task, its in tasks.items():
        peak = human_bytes(its.peak_bytes)
        counts = (str(its.gets), peak, str(its.escapes), str(its.reclaims))
        table.add_row(printable(task), *counts)
    return table


def draw_nodes(nodes: Sequence[Node]) -> RenderableType:
    """Draw a line for each node; those of one directory share its numbers, which have a line too.

    `attention` is the number of problems that have come back within the hour. A narrow terminal
    breaks the line: what matters comes first.
    """
    numbers = ("attention", "hit_rate", "in_use", "held", "processes", "warm", "gets", "pid", "age")
    table = new_table("node", numbers=numbers)
    table.add_column("app", no_wrap=True)
    for node in nodes:
        report = node.report
        total, infos = report.total, report.nodes
        problems = sum(not seen.is_past for seen in see_problems(report))
        table.add_row(
            printable(node.name),
            Text(str(problems), style="yellow" if problems else ""),
            Text(percent(total.hit_rate), style=rate_style(total.hit_rate)),
            str(total.in_use),
            human_bytes(total.held_bytes),
            str(len(report.processes)),
            str(report.warmed_processes),
            str(total.gets),
            *(_identity(report, infos[0]) if len(infos) == 1 else ("-", "-", "-")),
        )
        for info in infos if len(infos) > 1 else ():
            blank = ("" for _ in numbers[:-2])
            table.add_row(printable(f"  {info.node}"), *blank, *_identity(report, info))
    return table


def _identity(report: Report, info: NodeInfo) -> tuple[str, str, str]:
    """Return a node's process, its age and its app."""
    age = human_age(max(0.0, report.unix_seconds - info.started))
    return str(info.pid), age, printable(info.app or "-")


def _nodes(report: Report) -> Iterator[str]:
    for info in report.nodes:
        since = datetime.fromtimestamp(info.started, UTC)
        software = ", ".join(f"{name} {version}" for name, version in info.software.items())
        yield (
            f"{info.node} on {info.host}, app {info.app or '-'}, process {info.pid} since "
            f"{since:%Y-%m-%d %H:%M:%S} UTC; {software}"
        )
        changed = [f"{name}={json.dumps(info.settings.get(name))}" for name in info.changed]
        yield f"{info.node} settings: {', '.join([*changed, 'all others at their defaults'])}"


def _problems(report: Report) -> Iterator[str]:
    for seen in see_problems(report):
        title = sentence(
            f"{'earlier, ' if seen.is_past else ''}{seen.problem.title}: {seen.number}"
        )
        when = f" {sentence(seen.when)}" if seen.when else ""
        yield f"{title}{when} {sentence(seen.problem.advice)}"


def _troubles(report: Report) -> Iterator[str]:
    for pool, size, numbers in _rows(report):
        found = ((problem.label, problem.count_in(numbers)) for problem in PROBLEMS)
        counted = ", ".join(f"{label} {number}" for label, number in found if number)
        if counted and size != "all":
            yield f"{pool} {size}: {counted}"


def _unsealed(report: Report) -> Iterator[str]:
    if report.unseal_failures:
        yield f"sealed arguments that did not open: {unseal_failures_in_words(report)}"
