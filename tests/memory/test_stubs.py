"""mypy's stubtest: the stubs say of the compiled modules what is true."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

pytest.importorskip("mypy.stubtest", reason="the extra `check` has mypy")
MODULES = (
    *("memory._core", "memory._keystream", "memory._mapping"),
    *("counters._values", "sealing._scan"),
)
CORE = "bufpool_workers.memory._core"
EXPLAINED = [
    # Python shows them from 3.12 on
    rf"{CORE}.Buffer.__(buffer|release_buffer)__",
    # it can't be made by a call, and says so; the reflected half of __add__
    rf"{CORE}.Buffer.__(init|radd)__",
    # Cython makes __new__ of a constructor; test_signatures.py compares the two
    rf"{CORE}.BufferPool.__(init|new)__",
    # for this package alone
    rf"{CORE}.(Arena|DropReport|FIELDS|Field|Scope|TASK_FIELDS|TaskField|counted|tallied)",
    r"bufpool_workers.\w+.\w+.(LEVELS|__test__|__pyx_capi__)",
]
CONFIGURATION = "[mypy]\npython_version = 3.12\nignore_missing_imports = True\n"


def findings(folder: Path, *, explained: list[str]) -> str:
    (folder / "allowed").write_text("\n".join(explained))
    (folder / "mypy.ini").write_text(CONFIGURATION)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest", "--concise", "--ignore-unused-allowlist"),
            *("--allowlist", str(folder / "allowed")),
            *("--mypy-config-file", str(folder / "mypy.ini")),
            *(f"bufpool_workers.{module}" for module in MODULES),
        ],
        cwd=CHECKOUT,  # mypy follows no editable install
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == bool(done.stdout), done.stdout + done.stderr
    return done.stdout


def test_stubs_agree_with_the_compiled_modules(tmp_path):
    assert findings(tmp_path, explained=EXPLAINED) == ""


def test_what_differs_is_found(tmp_path):
    assert f"{CORE}.Arena is not present in stub" in findings(tmp_path, explained=EXPLAINED[:-2])
