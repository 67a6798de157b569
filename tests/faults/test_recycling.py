"""Children that end after one task each; `python -m tests.faults` runs thousands and plots them."""

import pytest

from tests.faults.node import Node
from tests.faults.recycling import ONE_TASK, check, growth, recycle

CHILDREN = 50
CONCURRENCY = 10


def test_every_recycled_child_is_warm_and_nothing_grows(
    directory, start_worker, own_redis, tmp_path
):
    node = Node(
        start_worker,
        redis=own_redis,
        folder=tmp_path,
        directory=directory,
        concurrency=CONCURRENCY,
        arguments=ONE_TASK,
    )
    samples, found = recycle(node, children=CHILDREN, every=CONCURRENCY)
    assert len({child["pid"] for child in found}) == CHILDREN
    assert check(node, samples, found) == []


@pytest.mark.parametrize(
    ("series", "grown"), [([5, 5, 5], 0), ([1, 90, 1, 2, 1, 2, 1, 1, 80], 0), (range(9), 6)]
)
def test_growth_is_that_of_the_whole_series_and_not_of_a_peak(series, grown):
    assert growth(series) == grown
