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
    "units": set(),
    "signatures": set(),
    "settings": {"errors", "units", "stats"},
    "stats": {"units"},
    "memory": {"errors", "units", "settings", "stats"},
    "counters": {"errors", "units", "stats"},
    "sealing": {"errors", "settings", "signatures", "memory"},
    "metrics": {"errors", "units", "stats", "counters"},
    "diagnostics": {"errors", "units", "settings", "stats", "memory", "counters", "metrics"}
    | {"celery", "sealing"},
    "runtime": {"errors", "units", "settings", "stats", "memory", "counters", "sealing", "metrics"}
    | {"celery"},
    "console": {"errors", "units", "settings", "stats", "counters", "metrics", "diagnostics"}
    | {"celery"},
    "decorators": {"errors", "units", "settings", "signatures", "memory", "sealing"},
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


@pytest.mark.parametrize(
    ("room", "without"),
    [
        ("units", ["celery", "redis", "prometheus_client", "cryptography"]),
        ("stats", ["celery", "redis", "prometheus_client", "cryptography"]),
        ("counters", ["celery", "redis", "prometheus_client", "cryptography"]),
        ("metrics", ["celery", "redis", "cryptography"]),
    ],
)
def test_room_does_without(room, without):
    script = """
import importlib, pkgutil, sys, types
package = types.ModuleType("bufpool_workers")  # of its own face only: this is about the room
package.__path__ = [sys.argv[1]]
sys.modules["bufpool_workers"] = package
sys.modules |= dict.fromkeys(sys.argv[3:])
room = importlib.import_module(f"bufpool_workers.{sys.argv[2]}")
inner = list(pkgutil.walk_packages(getattr(room, "__path__", []), f"{room.__name__}."))
for module in inner:
    importlib.import_module(module.name)
print(len(inner))
"""
    command = [sys.executable, "-c", script, str(ROOT), room, *without]
    found = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    below = [*(ROOT / room).rglob("*.py")]
    assert int(found.stdout) == len(below) - bool(below)


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
