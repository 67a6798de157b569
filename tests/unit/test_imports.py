"""Imports point one way, and importing the package does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bufpool_workers

ROOT = Path(bufpool_workers.__file__).parent
BELOW = {
    "errors": set(),
    "units": {"errors", "counters"},
    "signatures": set(),
    "settings": {"errors", "units"},
    "stats": {"errors", "units"},
    "memory": {"errors", "units", "settings", "stats"},
    "counters": {"errors", "units", "settings", "stats"},
    "sealing": {"errors", "settings", "signatures", "memory"},
    "metrics": {"errors", "units", "settings", "stats", "counters", "diagnostics"},
    "diagnostics": {"errors", "units", "settings", "stats", "memory", "counters"},
    "runtime": {"errors", "units", "settings", "memory", "counters", "sealing", "metrics"}
    | {"celery"},
    "console": {"errors", "units", "settings", "stats", "counters", "sealing", "diagnostics"},
    "decorators": {"errors", "settings", "signatures", "memory", "sealing"},
}


def rooms_imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "bufpool_workers" and len(parts) > 1 and parts[1] in BELOW:
                yield parts[1]


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_one_way(room):
    path = ROOT / f"{room}.py"
    files = [path] if path.exists() else list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert set(rooms_imported(file)) <= BELOW[room] | {room}, file


@pytest.mark.parametrize("room", ["memory", "counters", "metrics"])
def test_memory_and_metrics_know_nothing_of_celery(room):
    for file in (ROOT / room).rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "import celery" not in text
        assert "from celery" not in text


STUBBED = """
import sys, types
package = types.ModuleType("bufpool_workers")
package.__path__ = [{root!r}]
sys.modules["bufpool_workers"] = package
for name in {blocked!r}:
    sys.modules[name] = None
"""


def run_stubbed(script, blocked=()):
    """Run a script beside the package's own modules, without what its __init__ loads."""
    script = STUBBED.format(root=str(ROOT), blocked=blocked) + script
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_of(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        parts = file.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__")


def test_diagnostics_and_console_work_without_celery():
    names = [
        name
        for room in ("diagnostics", "console")
        for name in modules_of(room)
        # cryptography's user, which imports Celery's backends beside it
        if not name.endswith("commands.keygen")
    ]
    run_stubbed("".join(f"import {name}\n" for name in names), blocked=("celery", "kombu"))


def test_celery_command_loads_little_of_ours():
    script = """
import click, pkgutil
before = set(sys.modules)
from bufpool_workers.celery.commands import bufpool
from click.testing import CliRunner
loaded = set(sys.modules) - before
ours = {name for name in loaded if name.startswith("bufpool_workers")}
assert not loaded & {"celery", "redis", "rich", "prometheus_client", "cryptography"}, loaded
result = CliRunner().invoke(bufpool, ["--help"])
assert "Show pools and processes, once." in result.output
assert ours == {name for name in sys.modules if name.startswith("bufpool_workers.")}
print(len(ours))
"""
    assert int(run_stubbed(script)) <= 15


def test_import_has_no_side_effects():
    script = """
import os, signal, sys, threading
import ctypes, ctypes.util  # libffi 3.5 keeps a file open
import celery, celery.signals, celery.bootsteps, celery.worker, cryptography, redis
opened, before = [], {s: signal.getsignal(s) for s in signal.valid_signals()}
files = set(os.listdir("/proc/self/fd"))
watched = ("open", "socket.", "subprocess.", "os.mkdir", "os.remove", "os.rename")
def audit(event, args):
    if event.startswith(watched) and not (event == "open" and str(args[0]).endswith(
            (".py", ".pyc", ".so", ".pxd")) ):
        opened.append((event, args))
sys.addaudithook(audit)
import bufpool_workers
assert not [o for o in opened if "w" in str(o[1][1:])], opened
assert threading.active_count() == 1
assert {s: signal.getsignal(s) for s in signal.valid_signals()} == before
assert set(os.listdir("/proc/self/fd")) == files
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
