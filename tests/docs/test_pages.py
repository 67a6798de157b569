"""What the pages name is there: links, anchors, files, targets, settings, metrics, versions."""

import re
import tomllib

import pytest

from bufpool_workers.counters import catalog
from bufpool_workers.settings import PREFIX, Settings
from tests.docs import figures
from tests.support.checkout import CHECKOUT
from tests.support.pages import README, Page, read_pages

PAGES = read_pages()
MOST_LINES, README_LINES = 300, 250
RECORDED = "record/tables.md", "record/go/tables.md"
NO_LIMIT = {"CHANGELOG.md", "tests/benchmarks/record/tables.md"}
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def project() -> dict:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def fault_of_link(page: Page, target: str) -> str | None:
    """Return what is wrong with a link to another page or a file of the project."""
    if re.match(r"https?://", target):
        return None
    path, _, anchor = target.partition("#")
    found = (page.path.parent / path).resolve() if path else page.path
    if not found.is_relative_to(CHECKOUT.resolve()) or not found.exists():
        return f"{target}: no such file"
    if not anchor:
        return None
    if found.suffix != ".md":
        return f"{target}: an anchor of what is no page"
    return None if anchor in Page(found).anchors() else f"{target}: no such heading"


@each_page
def test_its_figures_are_those_of_the_recorded_run(page):
    assert figures.filled(page) == page.text


@each_page
def test_no_measured_figure_is_typed_by_hand(page):
    text = re.sub(
        r"<!-- trials -->.*?<!-- end of trials -->", "", figures.typed(page), flags=re.DOTALL
    )
    units = r"(?:ns|µs|ms|microseconds|milliseconds|instructions|times as|tasks a second|%)"
    if not page.name.endswith(RECORDED):
        assert re.findall(rf"\b\d[\d.,]* {units}(?!\w)", text) == []


@each_page
def test_links_lead_somewhere(page):
    faults = [fault_of_link(page, target) for target in page.links()]
    assert [fault for fault in faults if fault] == []


@each_page
def test_files_that_it_names_are_there(page):
    named = re.findall(r"`((?:tasks|deploy|tests|bufpool_workers)/[\w./@-]*)`", page.prose)
    if page.name != "CHANGELOG.md":  # it speaks of files that were
        assert [name for name in named if not (CHECKOUT / name).exists()] == []


@each_page
def test_targets_that_it_names_are_in_the_makefile(page):
    named = set(re.findall(r"(?:^\$ |`)make ([\w-]+)", page.text, re.MULTILINE))
    targets = re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert named <= set(targets)


@each_page
def test_code_stands_in_fences(page):
    indented = re.findall(r"(?<=\n\n)(?: {4}|\t)[^\s|*-].*", page.prose)
    assert indented == []


@each_page
def test_it_is_short_enough_to_be_read(page):
    if page.name not in NO_LIMIT:
        most = README_LINES if page.path == README else MOST_LINES
        assert len(page.text.splitlines()) <= most


def test_every_setting_is_in_a_table():
    rows = [line for page in PAGES for line in page.prose.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(bufpool_\w+)`", row.split("|")[1])}
    assert {PREFIX + name for name in Settings.__dataclass_fields__} <= named


def test_every_metric_is_in_a_table():
    specs = {spec for spec in vars(catalog).values() if isinstance(spec, catalog.MetricSpec)}
    counters = {*catalog.COUNTERS, catalog.ESCAPED_AT, catalog.UNSEALED, catalog.UNSEAL_FAILED}
    scraped = specs.union(catalog.POOL_GAUGES, catalog.DERIVED) - counters
    names = {spec.suffix for spec in scraped}
    names |= {f"{spec.suffix}_total" for spec in counters}
    assert names <= {name for page in PAGES for name in re.findall(r"`(\w+)`", page.prose)}


def test_versions_that_the_readme_names_are_those_of_the_package():
    least = project()["requires-python"].removeprefix(">=")
    assert f"Python {least} or later" in README.read_text()
