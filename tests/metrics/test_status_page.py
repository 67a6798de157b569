"""The status page as it is written; what a browser makes of it is in test_statuspage_browser.py."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from bufpool_workers.counters.history import History, Sample
from bufpool_workers.counters.node_file import NodeInfo
from bufpool_workers.counters.report import EscapePlace, ProcessReport, Report
from bufpool_workers.metrics.page import status as statuspage
from bufpool_workers.pool_stats import LEVELS, PROTECTION, PoolStats, TaskStats


def make_report(*, level="memfd", **fields) -> Report:
    pool = PoolStats.of_sizes(
        {"4kb": PoolStats(gets=8, puts=6, hits=6, misses=2, in_use=2, idle=6)}
    )
    process = ProcessReport(
        pid=41, age_seconds=3700, warmed=True, secure_level=level, locked_bytes=0, pools={}
    )
    defaults = {"unix_seconds": 1.8e9, "pools": {"regular": pool}, "processes": (process,)}
    return Report(**{**defaults, **fields})


class Reader(HTMLParser):
    """The text of a page, and what its elements are."""

    def __init__(self, page: bytes):
        super().__init__()
        self.tags, self.attributes, self.text = [], {}, ""
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value)

    def handle_data(self, data):
        self.text += f"{data} "


def read(**fields) -> Reader:
    return Reader(statuspage.show(make_report(**fields)))


def test_it_says_what_the_report_says():
    page = read()
    assert "As of  08:00:00 UTC" in page.text
    for words in ("75 %", "2 of 8", "1 h 1 min", "4 KiB"):
        assert words in page.text
    assert "2027-01-15T08:00:00Z" in page.attributes["datetime"]


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_of_protection_is_put_in_words(level):
    assert PROTECTION[level] in read(level=level).text


def test_a_calm_node_needs_no_attention():
    assert "What needs attention Nothing." in read().text


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("damages", "Buffers written past their end: 3."),
        ("unlocked", "Buffers lent below the best level of protection: 3."),
        ("escapes", "Views that outlived their buffer: 3."),
        ("reclaims", "Buffers dropped, or still held when their task ended: 3."),
        ("limit_hits", "Requests that met the cap of their pool: 3."),
    ],
)
def test_what_went_wrong_is_said_with_what_to_do(field, words):
    page = read(pools={"secure": PoolStats.of_sizes({"4kb": PoolStats(gets=3, **{field: 3})})})
    assert words in page.text


def test_each_advice_is_whole_beside_the_others():
    page = read(pools={"secure": PoolStats.of_sizes({"4kb": PoolStats(escapes=1, reclaims=1)})})
    text = " ".join(page.text.split())
    assert "after its with ; the log names task and place in its lines bufpool: escapes" in text
    assert "bufpool_debug counts places. Buffers dropped" in text
    assert "Use with or pooled_buffer; the log names" in text


def test_a_process_that_is_not_warm_and_a_file_that_is_not_read_are_said():
    cold = ProcessReport(
        pid=42, age_seconds=1, warmed=False, secure_level=None, locked_bytes=0, pools={}
    )
    page = read(processes=(cold,), skipped={"x.db": "no metric file has such a name"})
    assert "Processes that are not warm: 1." in page.text
    assert "x.db no metric file has such a name" in page.text


def test_process_that_needs_no_warming_needs_no_attention():
    script = ProcessReport(
        pid=42, age_seconds=1, warmed=None, secure_level=None, locked_bytes=0, pools={}
    )
    page = read(processes=(script,))
    assert "Processes that are not warm" not in page.text
    assert "42 1 s as used" in page.text


def test_places_of_escapes_are_shown_where_they_are_known():
    pools = {"regular": PoolStats.of_sizes({"4kb": PoolStats(gets=3, escapes=3)})}
    assert "bufpool_debug counts places." in read(pools=pools).text
    place = EscapePlace(pool="regular", place="/srv/shop/images.py:118", escapes=3)
    page = read(pools=pools, escape_places=(place,))
    assert "/srv/shop/images.py:118 regular 3" in page.text


def test_no_name_becomes_markup():
    hostile = "</script><b onclick='x'>&\"\ud800"
    pool = PoolStats.of_sizes({hostile: PoolStats(gets=1)})
    place = EscapePlace(pool=hostile, place=hostile, escapes=1)
    page = read(pools={hostile: pool}, skipped={hostile: hostile}, escape_places=(place,))
    assert "b" not in page.tags
    assert "onclick" not in page.attributes
    assert page.tags.count("script") == 1


def test_the_policy_names_exactly_what_the_page_contains():
    page = statuspage.show(make_report()).decode()
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in statuspage.policy()
    assert "unsafe" not in statuspage.policy()
    assert "http" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def node(name="celery@worker-1", **others):
    given = {
        "host": "rack-3",
        "app": "shop",
        "pid": 4242,
        "started": 1000.0,
        "software": {"bufpool_workers": "0.1.0", "python": "3.11.7", "celery": "5.7.0"},
        "settings": {"bufpool_debug": True, "bufpool_metrics_port": None},
        "changed": ("bufpool_debug",),
    }
    return NodeInfo(node=name, **given | others)


def test_the_page_says_whose_numbers_it_shows():
    page = read(nodes=(node(),), unix_seconds=1000.0 + 3725)
    assert "celery@worker-1 - Buffer pools" in page.text
    text = " ".join(page.text.split())
    assert "celery@worker-1 shop rack-3 4242 1 h 2 min 1970-01-01 00:16 UTC bufpool_workers" in text
    assert "Settings in force: celery@worker-1" in text
    assert "bufpool_debug true bufpool_metrics_port null (default)" in text


def test_a_page_of_several_nodes_names_them_all():
    page = read(nodes=(node(), node("celery@worker-2")))
    assert "celery@worker-1 and 1 more - Buffer pools" in page.text
    assert "Settings in force: celery@worker-2" in page.text


def test_a_page_without_a_node_says_so():
    assert "No main process says who it is" in read().text


def past(**last_seen):
    samples = tuple(Sample(1.8e9 - 60 * n, 100 - n, 90 - n, 4096 * n) for n in range(5, 0, -1))
    return History(began=1.8e9 - 7200, samples=samples, last_seen=last_seen)


def test_rates_of_the_last_minutes_stand_beside_the_totals():
    pool = PoolStats.of_sizes({"4kb": PoolStats(gets=395, hits=235)})
    text = " ".join(read(history=past(), pools={"regular": pool}).text.split())
    assert "Gets 1 / s last 5 min 0 s; 395 so far" in text
    assert "Hit rate 50 % last 5 min 0 s; 59.5 % in all" in text


def test_the_last_hour_is_drawn_where_it_was_sampled():
    drawn = [name for name in read(history=past()).attributes["class"] if "spark" in name]
    assert drawn == ["spark use", "spark rate", "spark use"]
    assert "spark" not in " ".join(read().attributes["class"])


def test_one_minute_draws_no_line():
    history = History(began=1.8e9 - 20, samples=(Sample(1.8e9 - 10, 8.0, 6.0, 4096.0),))
    assert "spark" not in " ".join(read(history=history).attributes["class"])


def test_tasks_are_listed_with_the_bound_where_they_are_counted():
    tasks = {"shop.mail": TaskStats(gets=1234, escapes=7, peak_bytes=4096)}
    text = " ".join(read(tasks=tasks).text.split())
    assert re.search(r"shop\.mail ?1,234 ?4 KiB ?7 ?0", text)
    assert "Up to 200 tasks are told apart; all others count as (other)." in text
    assert "told apart" not in read().text


def test_sealed_arguments_have_a_tile_where_there_are_any():
    text = " ".join(read(unsealed=1234, unseal_failures={"expired": 5, "damaged": 7}).text.split())
    assert re.search(r"Sealed arguments ?1,234 ?opened; 12 not: damaged 7, expired 5", text)
    assert "Sealed arguments that were tampered with, moved or sent twice: 7." in text
    assert "Sealed arguments" not in read().text


def test_a_problem_that_has_not_come_back_is_earlier():
    pools = {"regular": PoolStats.of_sizes({"4kb": PoolStats(escapes=3, reclaims=2)})}
    seen = past(escapes=1.8e9 - 60, reclaims=1.8e9 - 4000)
    text = " ".join(read(history=seen, pools=pools).text.split())
    now, _, earlier = text.partition("Earlier, and not in the last hour: 1")
    assert "Views that outlived their buffer: 3. Last seen 1 min 0 s ago." in now
    assert "Buffers dropped, or still held when their task ended: 2. Last seen 1 h 6 min" in earlier


def test_a_node_whose_problems_are_all_past_needs_no_attention():
    pools = {"regular": PoolStats.of_sizes({"4kb": PoolStats(escapes=3)})}
    text = " ".join(read(history=past(), pools=pools).text.split())
    assert "What needs attention Nothing. Earlier" in text
