"""The build stops with a sentence where it can't compile. pip makes the build's environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bufpool_workers.memory import _core, _keystream, _mapping
from tests.support.checkout import CHECKOUT


@pytest.mark.skipif(not (CHECKOUT / "LICENSE").exists(), reason="the sources are not here")
def test_build_without_a_compiler_names_the_packages(tmp_path):
    skipped = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for name in ("bufpool_workers", "deploy"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "out", "."],
        cwd=tmp_path,
        env=os.environ | {"CC": str(tmp_path / "no-compiler")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode != 0
    assert "bufpool_workers: no C compiler that works" in done.stdout + done.stderr
    assert "apt-get install gcc libc6-dev python3-dev" in done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf: apt-get install binutils")
@pytest.mark.parametrize(
    "module", [_core, _keystream, _mapping], ids=lambda module: module.__name__
)
def test_native_modules_are_hardened(module):
    def read(option):
        command = ["readelf", option, "--wide", module.__file__]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert "BIND_NOW" in read("--dynamic")
    assert "GNU_RELRO" in read("--segments")
    assert "__stack_chk_fail" in read("--dyn-syms")
    names = re.findall(rb"/[\w./-]+/bufpool_workers/memory", Path(module.__file__).read_bytes())
    assert not names  # paths of the machine that built it
