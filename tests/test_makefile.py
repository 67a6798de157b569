"""`make`: what it names, what it says on the way, and what it refuses in one line."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

SETUP = CHECKOUT / ".ci" / "setup.py"
pytestmark = pytest.mark.skipif(not SETUP.exists(), reason="the sources are not here")


def run_setup(*, path, **env):
    """Run the set-up in `path`, a folder with what it may use of this checkout."""
    return subprocess.run(
        [sys.executable, str(path / ".ci" / "setup.py"), "demo"],
        env={"PATH": os.environ["PATH"], "HOME": str(path)} | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path):
    for name in (".ci/setup.py", ".ci/packages", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    pip = tmp_path / ".venv" / "bin" / "python"
    pip.parent.mkdir(parents=True)
    pip.write_text('#!/bin/sh\necho "pip $*"\necho "wheel $BUFPOOL_WHEEL"\n')
    pip.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(shutil.which("make") is None, reason="no make: apt-get install make")
def test_help_names_every_target():
    shown = subprocess.run(
        [shutil.which("make"), "--no-print-directory", "-C", str(CHECKOUT), "help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    targets = re.findall(r"^([a-z][\w-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) - {"help"} == set(re.findall(r"^make ([\w-]+)", shown, re.MULTILINE))


def test_setup_says_each_step_and_what_it_installs(checkout):
    done = run_setup(path=checkout)
    assert (done.returncode, done.stderr) == (0, "")
    steps = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert all(re.match(r"\[ *\d+\.\d s\] \S", step) for step in steps)
    assert "from PyPI: celery[redis]>=5.5" in done.stdout
    assert "numpy" in done.stdout
    assert "compiling and installing bufpool_workers" in done.stdout
    assert "--upgrade" not in done.stdout


def test_missing_compiler_is_one_line_and_nothing_is_installed_unasked(checkout):
    (checkout / "apt-get").write_text("#!/bin/sh\ntouch $HOME/asked\n")
    (checkout / "apt-get").chmod(0o755)
    path = f"{checkout}{os.pathsep}{os.environ['PATH']}"
    done = run_setup(path=checkout, CC="no-such-compiler", PATH=path)
    assert done.returncode == 1
    assert done.stderr == (
        "bufpool_workers: missing: a C compiler; "
        "on Debian or Ubuntu: sudo apt-get install gcc libc6-dev\n"
    )
    assert "pip install" not in done.stdout
    assert not (checkout / "asked").exists()


def test_apt_upgrades_nothing_that_is_installed(checkout):
    log = checkout / "log"
    for name, script in {
        "apt-get": f'echo "$*" >> {log}; echo "Inst python3.11 [3.11.2-6] (3.11.9 Debian)"',
        "id": "echo 0",
        "dpkg": "exit 1",
    }.items():
        (checkout / name).write_text(f"#!/bin/sh\n{script}\n")
        (checkout / name).chmod(0o755)
    done = subprocess.run(
        [str(checkout / ".ci" / "packages"), "python3-dev"],
        env={"PATH": f"{checkout}{os.pathsep}{os.environ['PATH']}", "APT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "apt would upgrade python3.11 ; do it yourself: apt-get install python3-dev\n"
    )
    assert log.read_text().splitlines() == [
        "-qq update",
        "-s install --no-install-recommends python3-dev",
    ]


def wheel_of(folder: Path, *, sources, platform="linux_x86_64") -> Path:
    path = folder / "dist" / f"bufpool_workers-0.1.0-cp0-cp0-{platform}.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in sources.items():
            wheel.writestr(f"bufpool_workers/memory/{name}", text)
        wheel.writestr(f"bufpool_workers/memory/_core{sysconfig.get_config_var('EXT_SUFFIX')}", "")
    return path


@pytest.mark.parametrize(
    ("sources", "platform", "fits"),
    [
        ({"_core.pyx": "one"}, "linux_x86_64", True),
        ({"_core.pyx": "one"}, "manylinux_2_5_x86_64", True),
        ({"_core.pyx": "one"}, "manylinux_2_999_x86_64", False),
        ({"_core.pyx": "other"}, "linux_x86_64", False),
        ({"_core.pyx": "one", "_more.pxd": ""}, "linux_x86_64", False),
    ],
)
def test_a_wheel_of_the_same_sources_needs_no_compiler(checkout, sources, platform, fits):
    (checkout / "bufpool_workers" / "memory").mkdir(parents=True)
    (checkout / "bufpool_workers" / "memory" / "_core.pyx").write_text("one")
    wheel = wheel_of(checkout, sources=sources, platform=platform)
    done = run_setup(path=checkout, CC="no-such-compiler")
    assert done.returncode == (0 if fits else 1)
    assert (f"wheel {wheel}" in done.stdout) == fits


def test_old_python_is_refused_in_one_line(checkout):
    script = checkout / ".ci" / "setup.py"
    script.write_text(script.read_text().replace("LEAST = (3, 11)", "LEAST = (9, 0)"))
    done = run_setup(path=checkout)
    assert done.returncode == 1
    assert re.fullmatch(r"bufpool_workers: Python 9\.0 or later is needed, .*\n", done.stderr)
