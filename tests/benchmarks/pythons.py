"""The promised figures under every supported Python that is found here, in one table."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.record import load
from tests.benchmarks.report import Row, Table, console

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
SECTIONS = ("targets", "secure")
_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "build" / "benchmarks"


def find(version: str) -> str | None:
    """A Python of that version: on PATH, or the newest of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    known = sorted(pyenv.glob(f"{version}.*/bin/python3"), key=lambda path: path.stat().st_mtime)
    for candidate in (*reversed(known), shutil.which(f"python{version}")):
        if candidate and _version(str(candidate)) == version:
            return str(candidate)
    return None


def _version(python: str) -> str | None:
    """Return the version that it prints; None if it doesn't run, as pyenv's stand-ins."""
    program = "import sys; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run(
        [python, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def run(version: str, python: str) -> list[Table]:
    """Build for that Python in an environment of its own, and measure in it."""
    environment, record = _FOLDER / f"venv-{version}", _FOLDER / f"python-{version}"
    program = str(environment / "bin" / "python")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [python, "-m", "venv", str(environment)],
        [program, *install, "--editable", ".[bench]"],
        [program, "-m", "tests.benchmarks", *SECTIONS, "--record", str(record)],
    ):
        console.print(f"Python {version}: {' '.join(command[1:4])}", markup=False)
        subprocess.run(command, cwd=_ROOT, check=True, timeout=900, stdout=subprocess.DEVNULL)
    return load(record)


def join(results: dict[str, list[Table]]) -> Iterator[Table]:
    """Tables of one name as one, each figure's rows together; what only one has stays in it."""
    for name in dict.fromkeys(table.name for tables in results.values() for table in tables):
        same = [
            (v, table) for v, tables in results.items() for table in tables if table.name == name
        ]
        rows: dict[tuple[object, ...], list[Row]] = {}
        for version, table in same:
            for row in table.rows:
                figure = rows.setdefault((row.what, row.rival, row.at), [])
                figure.append(replace(row, what=f"{row.what}, Python {version}"))
        joined = Table(f"pythons_{name}", f"{same[0][1].title}, by Python")
        joined.rows = [row for figure in rows.values() for row in figure]
        yield joined


def tables() -> Iterator[Table]:
    found = {version: python for version in VERSIONS if (python := find(version))}
    if not found:
        raise FileNotFoundError(f"none of Python {', '.join(VERSIONS)} on PATH or in pyenv")
    missing = [version for version in VERSIONS if version not in found]
    for table in join({version: run(version, python) for version, python in found.items()}):
        if missing:
            table.notes.append(f"not found here: Python {', '.join(missing)}")
        yield table
