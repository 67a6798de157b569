"""Nodes as `status` and `top` draw them."""

import dataclasses
import io
import itertools

import pytest
from rich.console import Console

from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics import EscapePlace, Numbers, PoolNumbers, ProcessReport, Report
from bufpool_workers.worker.cli import live
from bufpool_workers.worker.cli.view import draw_node
from bufpool_workers.worker.nodes import Node


def node(gets, *, at=0.0, skipped=None, **others):
    sizes = {"4kb": Numbers(gets=gets, hits=gets, **others)}
    process = ProcessReport(
        pid=7,
        age_seconds=3725.0,
        warmed=False,
        secure_level="mlock",
        locked_bytes=8192,
        pools={"regular": PoolNumbers.of(sizes)},
    )
    report = Report(
        unix_seconds=at,
        pools={"regular": PoolNumbers.of(sizes)},
        processes=(process,),
        skipped=skipped or {},
    )
    return Node(name="shop@host", report=report)


def text_of(drawn):
    console = Console(file=io.StringIO(), width=200)
    console.print(drawn)
    return console.file.getvalue()


def row(text, *first):
    (found,) = [
        line.split() for line in text.splitlines() if line.split()[: len(first)] == [*first]
    ]
    return found


def test_a_node_is_drawn_with_what_went_wrong():
    text = text_of(draw_node(node(10, escapes=2, limit_hits=1, in_use=3, held_bytes=4096)))
    assert text.startswith("shop@host: 1 process, 0 warm, hit rate 100%, ")
    assert row(text, "regular", "4kb")[-4:] == ["100%", "3", "0", "4KiB"]
    assert "\nregular 4kb: at limit 1, escapes 2\n" in text
    assert row(text, "7") == ["7", "1h2min", "no", "mlock", "10", "100%", "3", "4KiB", "8KiB"]


def test_where_escaped_buffers_were_acquired_is_told():
    seen = node(1)
    place = EscapePlace(pool="regular", place="shop.py:12", escapes=3)
    report = dataclasses.replace(seen.report, escape_places=(place,))
    assert "escaped regular shop.py:12: 3" in text_of(draw_node(Node(name="x", report=report)))


def test_nothing_that_is_told_changes_the_terminal():
    seen = node(1, skipped={"\x1b[2J.db": "odd\x07\r"})
    text = text_of(draw_node(Node(name="\x1b]0;shop\x07", report=seen.report)))
    assert text.startswith("?]0;shop?: ")
    assert "skipped ?[2J.db: odd??" in text
    assert "\x1b" not in text


def test_files_that_could_not_be_read_are_named():
    text = text_of(draw_node(node(1, skipped={"stray.db": "no metric file has such a name"})))
    assert "skipped stray.db: no metric file has such a name" in text


def test_what_happens_in_a_second_comes_from_two_looks():
    text = text_of(draw_node(node(110, at=2.0), before=node(10).report))
    header, found = row(text, "pool", "size"), row(text, "regular", "4kb")
    assert dict(zip(header, found, strict=False))["gets_s"] == "50.0"


def test_a_node_that_began_anew_has_no_negative_rate():
    text = text_of(draw_node(node(3, at=2.0), before=node(10).report))
    header, found = row(text, "pool", "size"), row(text, "regular", "4kb")
    assert dict(zip(header, found, strict=False))["gets_s"] == "0.0"


def frames(*answers):
    answers = iter(answers)

    def find():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return [answer]

    return [text_of(frame) for frame in itertools.islice(live._draw(find), 3)]


def test_top_goes_on_when_a_node_goes_and_comes_back():
    first, gone, again = frames(node(1), MetricsError("nobody answers"), node(2))
    assert first.startswith("shop@host: ")
    assert gone == "nobody answers\n"
    assert again.startswith("shop@host: ")


def test_top_with_nobody_to_begin_with_fails():
    with pytest.raises(MetricsError, match="nobody answers"):
        frames(MetricsError("nobody answers"))
