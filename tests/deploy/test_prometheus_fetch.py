""".ci/prometheus: it takes what Debian's packages have, and never ends `make test`."""

import shutil
import subprocess

import pytest
from dockerfile import CHECKOUT

PROGRAMS = ("prometheus", "promtool")
NEEDED = ("cat", "chmod", "cp", "dirname", "dpkg-deb", "id", "mktemp", "mv", "rm", "sh", "tar")
APT_GET = """#!/bin/sh
[ "$2" = download ] && cp "{packages}/$3"_1_all.deb . 2>/dev/null && exit 0
echo "E: Unable to locate package $3" >&2
exit 100
"""
RELEASES = {
    "Debian 12": {"prometheus": PROGRAMS},
    "Debian 13": {"prometheus": ["prometheus"], "promtool": ["promtool"]},
    "only one is packaged": {"prometheus": ["prometheus"]},
    "no such package": {},
}


@pytest.fixture
def fetch(tmp_path):
    """Run the script in a checkout of its own, where apt has the packages that are given."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg-deb: not a Debian")
    checkout, tools, packages = (tmp_path / name for name in ("checkout", "tools", "packages"))
    for folder in (checkout / ".ci", checkout / ".venv" / "bin", tools, packages):
        folder.mkdir(parents=True)
    shutil.copy(CHECKOUT / ".ci" / "prometheus", checkout / ".ci")
    for name in NEEDED:
        (tools / name).symlink_to(shutil.which(name))

    def run(contents, *, apt=True):
        for package, programs in contents.items():
            build(packages / package, programs)
        if apt:
            (tools / "apt-get").write_text(APT_GET.format(packages=packages))
            (tools / "apt-get").chmod(0o755)
        done = subprocess.run(
            [checkout / ".ci" / "prometheus"],
            env={"PATH": str(tools), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done, {path.name for path in (checkout / ".venv" / "bin").iterdir()}

    return run


def build(folder, programs):
    (folder / "DEBIAN").mkdir(parents=True)
    (folder / "DEBIAN" / "control").write_text(
        f"Package: {folder.name}\nVersion: 1\nArchitecture: all\n"
        "Maintainer: test <test@example.org>\nDescription: stands in for Debian's\n"
    )
    (folder / "usr" / "bin").mkdir(parents=True)
    for program in programs:
        path = folder / "usr" / "bin" / program
        path.touch(mode=0o755)
    subprocess.run(
        ["dpkg-deb", "--build", folder, f"{folder}_1_all.deb"],  # noqa: S607 - of PATH
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("release", RELEASES)
def test_programs_are_taken_from_whichever_package_has_them(fetch, release):
    contents = RELEASES[release]
    packaged = {program for programs in contents.values() for program in programs}
    run, found = fetch(contents)
    assert (run.returncode, found) == (0, packaged)
    for program in PROGRAMS:
        said = f"no {program} found; the tests that need it will be skipped" in run.stderr
        assert said == (program not in packaged)


def test_programs_that_are_there_are_not_fetched_again(fetch):
    fetch(RELEASES["Debian 12"])
    run, found = fetch({}, apt=False)
    assert (run.returncode, run.stderr, found) == (0, "", set(PROGRAMS))


def test_machine_without_apt_goes_on_without_them(fetch):
    run, found = fetch({}, apt=False)
    assert (run.returncode, found) == (0, set())
    assert "no prometheus found" in run.stderr
