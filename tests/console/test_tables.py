"""Nodes as `status` and `top` draw them."""

import dataclasses
import io
import itertools

import pytest
from rich.console import Console

from bufpool_workers.console import top
from bufpool_workers.console.tables import draw_node, draw_nodes
from bufpool_workers.counters.node_file import NodeInfo
from bufpool_workers.diagnostics.nodes import Node
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics import EscapePlace, ProcessReport, Report
from bufpool_workers.pool_stats import PoolStats


def node(gets, *, at=0.0, skipped=None, **others):
    sizes = {"4kb": PoolStats(gets=gets, hits=gets, **others)}
    process = ProcessReport(
        pid=7,
        age_seconds=3725.0,
        warmed=False,
        secure_level="mlock",
        locked_bytes=8192,
        pools={"regular": PoolStats.of_sizes(sizes)},
    )
    report = Report(
        unix_seconds=at,
        pools={"regular": PoolStats.of_sizes(sizes)},
        processes=(process,),
        skipped=skipped or {},
    )
    return Node(name="shop@host", report=report)


def text_of(drawn, *, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(drawn, crop=False)
    return console.file.getvalue()


def row(text, *first):
    (found,) = [
        line.split() for line in text.splitlines() if line.split()[: len(first)] == [*first]
    ]
    return found


def test_node_is_drawn_with_its_problems():
    text = text_of(draw_node(node(10, escapes=2, limit_hits=1, in_use=3, held_bytes=4096)))
    assert text.startswith("shop@host: 1 process, 0 warm, hit rate 100%, ")
    assert row(text, "regular", "4kb")[-4:] == ["100%", "3", "0", "4KiB"]
    assert "\nregular 4kb: at limit 1, escapes 2\n" in text
    assert row(text, "7") == ["7", "1h2min", "no", "mlock", "10", "100%", "3", "4KiB", "8KiB"]


def test_places_of_escapes_are_listed():
    seen = node(1)
    place = EscapePlace(pool="regular", place="shop.py:12", escapes=3)
    report = dataclasses.replace(seen.report, escape_places=(place,))
    assert "escaped regular shop.py:12: 3" in text_of(draw_node(Node(name="x", report=report)))


def test_sealed_arguments_that_did_not_open_are_told_by_their_reason():
    report = dataclasses.replace(node(1).report, unseal_failures={"expired": 1, "wrong_task": 2})
    text = text_of(draw_node(Node(name="x", report=report)))
    assert "Sealed arguments that were tampered with, moved or sent twice: 2. Find out who" in text
    assert "sealed arguments that did not open: wrong task 2, expired 1" in text
    assert "sealed arguments" not in text_of(draw_node(node(1)))


def test_control_characters_are_replaced():
    seen = node(1, skipped={"\x1b[2J.db": "odd\x07\r"})
    text = text_of(draw_node(Node(name="\x1b]0;shop\x07", report=seen.report)))
    assert text.startswith("?]0;shop?: ")
    assert "skipped ?[2J.db: odd??" in text
    assert "\x1b" not in text


def test_unreadable_files_are_named():
    text = text_of(draw_node(node(1, skipped={"stray.db": "no metric file has such a name"})))
    assert "skipped stray.db: no metric file has such a name" in text


def test_rates_come_from_two_reports():
    text = text_of(draw_node(node(110, at=2.0), before=node(10).report))
    header, found = row(text, "pool", "size"), row(text, "regular", "4kb")
    assert dict(zip(header, found, strict=False))["gets_s"] == "50.0"


def test_restarted_node_has_no_negative_rate():
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

    return [text_of(frame) for frame in itertools.islice(top._draw(find), 3)]


def busy_node():
    """Two children with numbers as large as a busy day's, three pools, many warm sizes unused."""
    used = PoolStats(gets=12345678, hits=12345670, misses=8, in_use=12, held_bytes=113561344)
    warm = PoolStats(idle=16, held_bytes=65536)
    labels = ("2kb", "8kb", "16kb", "32kb", "256kb", "4mb")
    sizes = {"4kb": used, "1mb": used, **dict.fromkeys(labels, warm)}
    pools = {kind: PoolStats.of_sizes(sizes) for kind in ("regular", "secure", "random")}
    process = ProcessReport(
        pid=4194303,
        age_seconds=86400 * 12.5,
        warmed=True,
        secure_level="memfd",
        locked_bytes=113561344,
        pools=pools,
    )
    report = Report(unix_seconds=2.0, pools=pools, processes=(process, process))
    return Node(name="celery@worker-1.example.org", report=report)


def test_numbers_stay_whole_on_a_narrow_terminal():
    wide = text_of(draw_node(busy_node()))
    narrow = text_of(draw_node(busy_node()), width=40)
    assert row(narrow, "regular", "4kb") == row(wide, "regular", "4kb")
    assert [line for line in narrow.splitlines() if line.startswith("4194303")] == [
        line for line in wide.splitlines() if line.startswith("4194303")
    ]


def test_top_fits_a_small_terminal():
    (look,) = itertools.islice(top._draw(lambda: [busy_node()]), 1)
    lines = text_of(look, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 24  # one more says how it ends


def test_top_keeps_what_matters_in_40_columns():
    (look,) = itertools.islice(top._draw(lambda: [busy_node()]), 1)
    console = Console(file=io.StringIO(), width=40)
    console.print(look, crop=True)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    header, found = row("\n".join(lines), "pool", "size"), row("\n".join(lines), "regular", "4kb")
    assert header[2:5] == ["gets_s", "hit_rate", "in_use"]
    assert found[3:5] == ["99.9%", "12"]
    (process, _) = [line.split() for line in lines if line.startswith("4194303")]
    assert process[1:4] == ["yes", "99.9%", "72"]


def test_first_look_of_top_has_no_rates():
    (look,) = itertools.islice(top._draw(lambda: [node(10)]), 1)
    header, found = row(text_of(look), "pool", "size"), row(text_of(look), "regular", "4kb")
    assert dict(zip(header, found, strict=False))["gets_s"] == "-"


def test_top_continues_while_a_node_restarts():
    first, gone, again = frames(node(1), MetricsError("no node answers"), node(2))
    assert first.startswith("shop@host: ")
    assert gone == "no node answers\n"
    assert again.startswith("shop@host: ")


def test_top_without_any_node_fails():
    with pytest.raises(MetricsError, match="no node answers"):
        frames(MetricsError("no node answers"))


def info(name, pid):
    return NodeInfo(node=name, host="here", app="shop", pid=pid, started=-60.0)


def test_all_nodes_have_a_line_each_and_those_of_a_directory_are_listed_below_it():
    alone = node(10, escapes=2)
    alone = dataclasses.replace(
        alone, report=dataclasses.replace(alone.report, nodes=(info("shop@here", 7),))
    )
    shared = node(5)
    both = (info("mail@here", 8), info("post@here", 9))
    shared = Node(name="/run/prom", report=dataclasses.replace(shared.report, nodes=both))
    text = text_of(draw_nodes([shared, alone]))
    found = row(text, "/run/prom")
    assert found == [*("/run/prom", "1", "100%", "0", "0B", "1", "0", "5", "-", "-", "-")]
    assert row(text, "mail@here") == ["mail@here", "8", "1min0s", "shop"]
    assert row(text, "post@here") == ["post@here", "9", "1min0s", "shop"]
    header, found = row(text, "node"), row(text, "shop@host")
    assert header[:3] == ["node", "attention", "hit_rate"]  # a narrow terminal breaks the rest
    assert found[1] == "2"  # it is not warm, and views escaped
    assert found[-3:] == ["7", "1min0s", "shop"]
