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
    "diagnostics": {"errors", "units", "settings", "stats", "memory", "counters", "metrics"}
    | {"celery", "sealing"},
    "runtime": {"errors", "units", "settings", "memory", "counters", "sealing", "metrics"}
    | {"celery"},
    "console": {"errors", "units", "settings", "stats", "counters", "metrics", "diagnostics"}
    | {"celery"},
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
