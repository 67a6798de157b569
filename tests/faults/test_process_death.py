"""Whatever dies, the node serves again, its totals are those of its tasks, and nothing is left."""

import pytest

from tests.faults.process_faults import PROCESS_FAULTS


@pytest.mark.parametrize("fault", [fault.parameters() for fault in PROCESS_FAULTS])
def test_nothing_is_lost_or_left_behind_after(fault, node):
    before = node.footprint_in_use()
    fault.hit(node)
    node.work()
    assert node.totals() == node.truth()
    node.wait_settled(before)
