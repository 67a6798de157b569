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
    "_docs": set(),
    "_record": {"_docs"},
    "_lazy": set(),
    "_loading": set(),
    "_version": set(),
    "_environ": {"errors"},
    "pool_stats": {"_docs", "_record", "units"},
    "_checks": {"units", "pool_stats"},
    "settings": {"_record", "_checks", "_environ", "errors", "units", "pool_stats"},
    "memory": {"_docs", "_loading", "errors", "units", "settings", "pool_stats"},
    "counters": {"_docs", "_record", "_lazy", "errors", "units", "pool_stats"},
    "sealing": {"_lazy", "errors", "signatures", "memory"},
    "diagnostics": {"_environ", "_record", "errors", "units", "settings", "pool_stats"}
    | {"memory", "counters"},
    "metrics": {"_environ", "errors", "units", "pool_stats", "counters", "diagnostics"},
    "runtime": {
        "_docs",
        "_environ",
        "errors",
        "units",
        "signatures",
        "settings",
        "pool_stats",
        "memory",
        "counters",
        "sealing",
    }
    | {"metrics", "diagnostics", "_loading", "_version", "redis_store"},
    "console": {
        "_environ",
        "errors",
        "units",
        "settings",
        "pool_stats",
        "counters",
        "sealing",
        "metrics",
    }
    | {"diagnostics"},
    "_wrapping": {"signatures"},
    "_opening": {"_wrapping", "errors", "signatures", "memory", "sealing", "runtime"},
    "_asking": {"_wrapping", "signatures", "memory"},
    "_sizes": {"_asking", "signatures", "units"},
    "decorators": {"_opening", "_sizes", "_wrapping", "signatures", "memory", "sealing", "runtime"},
    "jobs": {"_asking", "signatures", "runtime"},
    "futures": {"jobs", "settings", "runtime", "metrics"},
    "testing": {"errors", "settings", "memory", "sealing", "runtime"},
    "pytest_plugin": {"testing"},
    "redis_store": {"errors"},
    "dramatiq": {"errors", "settings", "sealing", "runtime"},
    "rq": {"errors", "signatures", "settings", "sealing", "runtime"},
    "huey": {"errors", "signatures", "settings", "sealing", "runtime"},
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


ADAPTERS = ("dramatiq", "rq", "huey")
FOREIGN = ("celery", "kombu", "redis", "prometheus_client", "cryptography")


def run_without(script, blocked=()):
    """Run a script that can't import the blocked packages; return what it prints."""
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    command = [sys.executable, "-c", f"import sys\n{block}{script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_of(room):
    files = sorted((ROOT / room).rglob("*.py")) or [ROOT / f"{room}.py"]
    for file in files:
        parts = file.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize(
    ("room", "without"),
    [
        *((room, FOREIGN) for room in ("units", "pool_stats", "settings", "memory", "counters")),
        *((room, FOREIGN) for room in ("diagnostics", "decorators", "testing")),
        ("runtime", FOREIGN),
        ("sealing", ("celery", "kombu", "redis", "prometheus_client")),
        ("metrics", ("celery", "kombu", "redis", "cryptography")),
        ("console", ("celery", "kombu", "redis", "prometheus_client")),
        *((host, ("celery", "kombu", "prometheus_client", "cryptography")) for host in ADAPTERS),
    ],
)
def test_room_does_without(room, without):
    # the parts of the runtime that hold keys are imported when there are some
    names = [name for name in modules_of(room) if name != "bufpool_workers.runtime.keys"]
    names = [name for name in names if not name.endswith("memory._build")]  # setuptools' own
    run_without("".join(f"import {name}\n" for name in names), without)


def test_the_face_loads_nothing():
    script = """
before = set(sys.modules)
import bufpool_workers
assert not set(sys.modules) & {"celery", "redis", "prometheus_client", "cryptography"}
print(*sorted(name for name in set(sys.modules) - before if name.startswith("bufpool")))
assert set(bufpool_workers.__all__) <= set(dir(bufpool_workers))
for name in bufpool_workers.__all__:
    getattr(bufpool_workers, name)
assert callable(bufpool_workers.stats)
"""
    assert run_without(script).split() == ["bufpool_workers", "bufpool_workers._lazy"]


def test_celery_command_loads_little_of_ours():
    script = """
import click, pkgutil
import celery.signals  # the command has it
before = set(sys.modules)
from bufpool_workers.celery.commands import bufpool
from click.testing import CliRunner
loaded = set(sys.modules) - before
ours = {name for name in loaded if name.startswith("bufpool_workers")}
assert not loaded & {"celery", "redis", "rich", "prometheus_client", "cryptography"}, loaded
result = CliRunner().invoke(bufpool, ["--help"])
assert "Show pools and processes, once." in result.output
assert ours == {name for name in sys.modules if name.startswith("bufpool_workers")}
print(len(ours))
"""
    assert int(run_without(script)) <= 15


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
