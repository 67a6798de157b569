"""What a release is made of: versions, addresses, and what the sdist takes along."""

import re
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata

import pytest

from bufpool_workers import __version__
from tests.support.checkout import CHECKOUT
from tests.support.pages import read_pages

pytestmark = pytest.mark.skipif(
    not (CHECKOUT / "LICENSE").exists(), reason="the sources are not here"
)


@pytest.fixture(scope="module")
def settings():
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def test_the_build_s_requirements_are_pinned(settings):
    assert all("==" in requirement for requirement in settings["build-system"]["requires"])


def test_wheels_are_tested_away_from_the_sources(settings):
    """In the checkout Python would import the package that is not compiled."""
    wheels = settings["tool"]["cibuildwheel"]
    command = wheels["test-command"].split()
    assert not any("{" in word for word in command)
    named = [word for word in command if word.startswith("tests/")]
    assert [word for word in named if not (CHECKOUT / word).exists()] == []
    assert "tests" in wheels["test-sources"]
    assert [name for name in wheels["test-sources"] if not (CHECKOUT / name).exists()] == []


def test_the_changelog_has_the_version_and_room_for_the_next():
    headings = re.findall(r"^## (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1].startswith(f"{__version__} - ")


def test_the_version_stands_in_one_place():
    named = re.compile(rf"[\"']{re.escape(__version__)}[\"']")
    sources = [p for p in (CHECKOUT / "bufpool_workers").rglob("*.py*") if p.suffix != ".pyc"]
    files = [p.name for p in (*sources, CHECKOUT / "pyproject.toml") if named.search(p.read_text())]
    assert files == ["_version.py"]
    assert metadata.version("bufpool-workers") == __version__


def test_addresses_are_those_of_the_project(settings):
    source = settings["project"]["urls"]["Source"]
    raw = source.replace("//github.com", "//raw.githubusercontent.com")
    pages = [*read_pages(), *(CHECKOUT / ".github").rglob("*.yml")]
    text = "".join(page.text if hasattr(page, "text") else page.read_text() for page in pages)
    ours = re.findall(r"https://(?:raw\.githubusercontent|github)\.com/bufpool[^\s)]*", text)
    assert [address for address in ours if not address.startswith((source, raw))] == []
    for path in re.findall(rf"{re.escape(raw)}/main/([^\s)]+)", text):
        assert (CHECKOUT / path).is_file()


def test_the_sdist_takes_along_what_its_tests_need(tmp_path):
    command = [sys.executable, "-m", "build", "--sdist", "--outdir", str(tmp_path), str(CHECKOUT)]
    subprocess.run(command, check=True, capture_output=True)
    (sdist,) = tmp_path.iterdir()
    with tarfile.open(sdist) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    for pattern in ("tests/**/*.py", "tasks/**/*.py", "deploy/**/*.yaml", "deploy/**/*.service"):
        files = {str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob(pattern)}
        assert files <= inside
    assert {
        "Makefile",
        ".ci/setup.py",
        ".ci/wheels",
        "CHANGELOG.md",
        ".github/CONTRIBUTING.md",
    } <= inside
    assert {
        path for path in inside if path.endswith((".so", ".pyc")) or "secrets/" in path
    } == set()
