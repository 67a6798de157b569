"""The status page: it works without JavaScript; with it, it refreshes itself."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Final
from xml.etree.ElementTree import Element

from bufpool_workers.counters.report import ProcessReport, Report
from bufpool_workers.counters.tasks import MOST_TASKS, OTHER_TASKS
from bufpool_workers.diagnostics.problems import Problem, sentence
from bufpool_workers.diagnostics.trends import Seen, see_problems
from bufpool_workers.metrics.page.html import (
    Content,
    Row,
    element,
    render,
    section,
    table,
)
from bufpool_workers.metrics.page.nodes import name_of, show_nodes
from bufpool_workers.metrics.page.summary import rate_bar, show_summary, use_bar
from bufpool_workers.pool_stats import TABLE, PoolStats
from bufpool_workers.units import (
    format_age,
    format_bytes,
    format_count,
    format_label,
    format_percentage,
)

_POOL_HEADS: Final = (
    *("Size", "In use", "Held", "Gets", "Hit rate", "Misses", "Discards"),
    *("Escapes", "Reclaims", "At limit"),
)
_SECURE_HEADS: Final = ("Unlocked", "Damaged")
_PROCESS_HEADS: Final = (
    *("Process", "Age", "Warm", "Secure memory", "In use", "Held", "Locked"),
    *("Gets", "Hit rate", "Escapes"),
)
_TASK_HEADS: Final = ("Task", "Gets", "Most held at once", "Escapes", "Reclaims")


def show(report: Report) -> bytes:
    """Render a node's report."""
    return render(
        element(
            "html",
            element(
                "head",
                element("meta", charset="utf-8"),
                element("meta", name="viewport", content="width=device-width, initial-scale=1"),
                element("meta", name="color-scheme", content="light dark"),
                element("title", _title(report)),
                element("style", _read("status.css")),
            ),
            element(
                "body",
                _header(report),
                _main(report),
                _footer(),
                element("script", _read("status.js")),
            ),
            lang="en",
        )
    )


@cache
def policy() -> str:
    """Return the Content-Security-Policy that allows what the page contains, nothing else.

    https://www.w3.org/TR/CSP3/
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash('status.css')}'",
            f"script-src '{_hash('status.js')}'",
            "connect-src 'self'",
            *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors")),
        )
    )


def _hash(name: str) -> str:
    digest = hashlib.sha256(_read(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@cache
def _read(name: str) -> str:
    return (files("bufpool_workers.metrics.page") / name).read_text(encoding="utf-8")


def _title(report: Report) -> str:
    return " - ".join(filter(None, (name_of(report), "Buffer pools")))


def _header(report: Report) -> Element:
    moment = datetime.fromtimestamp(report.unix_seconds, UTC)
    time = element("time", f"{moment:%H:%M:%S} UTC", datetime=f"{moment:%Y-%m-%dT%H:%M:%SZ}")
    return element(
        "header",
        element("h1", _title(report)),
        element(
            "div",
            element("p", "As of ", time, ".", id="moment"),
            element("noscript", element("p", "Reload for newer numbers.")),
            element("button", "Pause updates", type="button", id="pause", hidden=True),
            element("p", role="status", id="updates"),
            class_="updates",
        ),
    )


def _main(report: Report) -> Element:
    return element(
        "main",
        section("attention", "What needs attention", *_attention(report)),
        section("summary", "At a glance", show_summary(report)),
        section("pools", "Pools", *_pools(report)),
        *_tasks(report),
        section("processes", "Processes", _processes(report.processes)),
        *_escapes(report),
        *show_nodes(report),
    )


def _footer() -> Element:
    meanings = [
        part
        for counter in TABLE
        for part in (
            element("dt", counter.suffix.replace("_", " ").capitalize()),
            element("dd", counter.meaning + "."),
        )
    ]
    return element(
        "footer",
        element("details", element("summary", "What is counted"), element("dl", *meanings)),
        element(
            "p",
            "The same ",
            element("a", "for Prometheus", href="metrics"),
            " and ",
            element("a", "as JSON", href="status.json"),
            ".",
        ),
    )


def _attention(report: Report) -> Iterator[Element]:
    seen = list(see_problems(report))
    found = [_problem(each, report) for each in seen if not each.is_past]
    yield element("ul", *found) if found else element("p", "Nothing.")
    past = [_problem(each, report) for each in seen if each.is_past]
    if past:
        title = f"Earlier, and not in the last hour: {len(past)}"
        yield element("details", element("summary", title), element("ul", *past), id="earlier")
    if report.skipped:
        rows = [(name, reason) for name, reason in report.skipped.items()]
        yield table(caption="Files that could not be read", heads=("File", "Why"), rows=rows)


def _problem(seen: Seen, report: Report) -> Element:
    title = sentence(f"{seen.problem.title}: {format_count(seen.number)}")
    when = element("span", sentence(seen.when) if seen.when else "", class_="when")
    advice = _advice(seen.problem, report)
    return element("li", element("strong", title), " ", when, " ", *advice)


def _advice(problem: Problem, report: Report) -> Iterator[Content]:
    for number, part in enumerate(sentence(problem.advice).split("`")):
        yield element("code", part) if number % 2 else part
    if problem.field == "escapes":
        shown = "The places are below." if report.escape_places else "bufpool_debug counts places."
        yield f" {shown}"


def _pools(report: Report) -> Iterator[Element]:
    used = {name: pool for name, pool in report.pools.items() if pool}
    if not used:
        yield element("p", "No buffer was asked for yet.")
        return
    yield element(
        "p", "Counted so far, over all processes that ever ran; in use and held now.", class_="note"
    )
    for name, pool in used.items():
        secure = name != "regular"
        title = f"{name.capitalize()} pool"
        yield element("h3", title)
        rows = [
            _size_row(format_label(size), numbers, secure=secure)
            for size, numbers in pool.sizes.items()
            if numbers
        ]
        yield table(
            caption=f"{title}, by size of buffer",
            heads=(*_POOL_HEADS, *_SECURE_HEADS) if secure else _POOL_HEADS,
            rows=rows,
            total=_size_row("Together", pool, secure=secure) if len(rows) > 1 else (),
        )


def _size_row(name: str, numbers: PoolStats, *, secure: bool) -> Row:
    counts = [numbers.misses, numbers.discards, numbers.escapes, numbers.reclaims]
    counts += [numbers.limit_hits, *((numbers.unlocked, numbers.damages) if secure else ())]
    return [name, *_use_cells(numbers), *map(format_count, counts)]


def _use_cells(numbers: PoolStats) -> Row:
    use = f"{format_count(numbers.in_use)} of {format_count(numbers.in_use + numbers.idle)}"
    return [
        [use_bar(numbers), element("span", use)],
        format_bytes(numbers.held_bytes),
        format_count(numbers.gets),
        [rate_bar(numbers.hit_rate), element("span", format_percentage(numbers.hit_rate))],
    ]


def _processes(processes: Sequence[ProcessReport]) -> Element:
    if not processes:
        return element("p", "No process of a worker counts in this directory.")
    rows = []
    for process in sorted(processes, key=lambda process: -process.age_seconds):
        total = process.total
        use, held, gets, rate = _use_cells(total)
        warm = {True: "yes", False: "no", None: "as used"}[process.warmed]
        level = process.secure_level or "none yet"
        rows.append(
            [
                *(str(process.pid), format_age(process.age_seconds), warm, level, use, held),
                *(format_bytes(process.locked_bytes), gets, rate, format_count(total.escapes)),
            ]
        )
    return table(caption="Living processes, the oldest first", heads=_PROCESS_HEADS, rows=rows)


def _tasks(report: Report) -> Iterator[Element]:
    if report.tasks:
        rows = [
            [
                *(task, format_count(its.gets), format_bytes(its.peak_bytes)),
                *(format_count(its.escapes), format_count(its.reclaims)),
            ]
            for task, its in report.tasks.items()
        ]
        text = (
            "Buffers lent to runs of each task, and the most bytes that its runs held at once in "
            f"one process. Up to {MOST_TASKS} tasks are told apart; all others count as "
            f"{OTHER_TASKS}."
        )
        made = table(caption="Tasks, the busiest first", heads=_TASK_HEADS, rows=rows)
        yield section("tasks", "Tasks", element("p", text, class_="note"), made)


def _escapes(report: Report) -> Iterator[Element]:
    if report.escape_places:
        rows = [
            (place.place, place.pool, format_count(place.escapes)) for place in report.escape_places
        ]
        made = table(
            caption="Escapes, by where the buffer was acquired",
            heads=("Acquired at", "Pool", "Escapes"),
            rows=rows,
        )
        note = element("p", "Where buffers were acquired that views outlived.", class_="note")
        yield section("escapes", "Escapes", note, made)
