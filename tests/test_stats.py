"""The one table of counters, and what is made from it."""

import dataclasses
import re

import pytest

from bufpool_workers import PoolStats, Settings, memory
from bufpool_workers.pool_stats import FIELDS, TABLE
from bufpool_workers.units import label_bytes


def test_every_number_has_a_meaning_and_a_metric_of_its_own():
    names = {field.name for field in dataclasses.fields(PoolStats)} - {"sizes"}
    assert {counter.name for counter in TABLE} == names
    assert all(counter.meaning for counter in TABLE)
    assert len({counter.suffix for counter in TABLE}) == len(TABLE)


def test_core_keeps_every_number_that_is_not_derived():
    pool = memory.Pools(Settings()).regular
    assert memory.FIELDS == FIELDS
    assert {len(numbers) for numbers in pool.counters()} == {len(FIELDS)}
    with pool.acquire(1):
        size = pool.stats().sizes[pool.labels[0]]
    assert (size.gets, size.puts, size.in_use) == (1, 0, 1)
    assert tuple(map(label_bytes, pool.labels)) == (*pool.size_classes, None)


def test_sizes_of_a_pool_are_in_order_and_add_up():
    labels = ["larger", "16kb", "1mb", "2kb", "256kb", "odd"]
    pool = PoolStats.of_sizes(dict.fromkeys(labels, PoolStats(gets=2, hits=1, held_bytes=5)))
    assert list(pool.sizes) == ["2kb", "16kb", "256kb", "1mb", "larger", "odd"]
    assert (pool.gets, pool.hits, pool.held_bytes, pool.hit_rate) == (12, 6, 30, 50)


def test_pools_are_added_class_by_class():
    one = PoolStats.of_sizes({"2kb": PoolStats(gets=1, in_use=1), "4kb": PoolStats(gets=2)})
    both = one + PoolStats.of_sizes({"4kb": PoolStats(gets=3), "8kb": PoolStats(gets=4)})
    assert (both.gets, both.in_use) == (10, 1)
    assert {label: size.gets for label, size in both.sizes.items()} == {
        "2kb": 1,
        "4kb": 5,
        "8kb": 4,
    }


def test_rate_of_nothing_is_none():
    assert PoolStats().hit_rate is PoolStats().reuse_efficiency is None
    assert PoolStats(gets=1).hit_rate == 0.0
    assert not PoolStats()
    assert PoolStats(idle=1)


def test_in_use_is_what_was_taken_and_not_given_back():
    assert PoolStats.of_counts({"gets": 9, "puts": 4, "idle": 3}).in_use == 5


def test_dictionary_is_read_back_without_the_news_of_other_versions():
    numbers = PoolStats(gets=4, hits=3, in_use=2, bytes_reused=1)
    written = numbers.as_dict()
    assert (written["hit_rate"], written["reuse_efficiency"]) == (75, 100)
    del written["damages"]
    assert PoolStats.from_dict(written | {"news": 1}) == numbers


@pytest.mark.parametrize("counter", TABLE, ids=lambda counter: counter.name)
def test_metric_names_follow_prometheus(counter):
    assert re.fullmatch(r"[a-z_]+", counter.suffix)
    assert not counter.suffix.endswith("_total")
