"""The page's table of what other libraries take of a Buffer is what they take."""

import pytest

from tests.memory.libraries import USES, table
from tests.support.checkout import CHECKOUT

PAGE = CHECKOUT / "bufpool_workers/memory/README.md"
ROWS = [
    line
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith(tuple(f"| {one.name} |" for one in USES))
] if PAGE.exists() else []  # fmt: skip


@pytest.mark.skipif(not PAGE.exists(), reason="the page is not here")
def test_table_has_a_row_for_each_call_and_no_other():
    calls = [f"| {one.name} | `{one.call}` |" for one in USES]
    assert [row.rpartition(" `")[0].strip() for row in ROWS] == calls


@pytest.mark.parametrize("one", USES, ids=lambda one: f"{one.name} {one.call}")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_library_takes_what_the_table_says(one):
    pytest.importorskip(one.module, reason=f"no {one.name} here: make libraries")
    assert table([one])[0] in ROWS
