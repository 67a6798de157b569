"""`python -m tests.benchmarks.instructions`: instructions by callgrind, where time is too noisy.

Each statement runs under valgrind twice, 1,000 and 3,000 times; the difference is its own. With
`--record FOLDER` the numbers are kept in instructions.json there.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.task_cost import STATEMENT

FEW, MANY = 1_000, 3_000
_COLLECTED = re.compile(r"Collected : (\d+)")

SETUP = """
import bufpool_workers as bp
from bufpool_workers import testing
KiB = 1024
warm = {kind: {"4KiB": 2} for kind in ("regular", "secure", "random")}
testing.configure(bp.Settings.read({"bufpool_warm": warm}))
bp.current_pools().warm()
pool = bp.current_pools().regular
def with_statement():
    with bp.buffer(4096) as buf:
        return buf
@bp.pooled_buffer(4096)
def decorated(*, buf):
    return buf
@bp.pooled_buffer(lambda n: n)
def sized(n, *, buf):
    return buf
"""
JOB = """
import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import Job, current_runtime
warm = {{"regular": {{"4KiB": 2}}}}
testing.configure(bp.Settings.read({{"bufpool_warm": warm, "bufpool_task_metrics": {0}}}))
bp.current_pools().warm()
current_runtime().begin_job(Job("1", "shop.scale"))
"""
TASK = """
from tests.benchmarks.task_cost import {0}, tracer
trace = tracer({0})["trace"]
"""
CASES: Mapping[str, tuple[str, str]] = {
    "an empty loop": ("", "pass"),
    "acquire and release, 4 KiB": (SETUP, "pool.acquire(4096).release()"),
    "a with statement, 4 KiB": (SETUP, "with bp.buffer(4096): pass"),
    "a function with a with statement": (SETUP, "with_statement()"),
    "@pooled_buffer(4096)": (SETUP, "decorated()"),
    "@pooled_buffer(lambda n: n)": (SETUP, "sized(4096)"),
    "secure, 64 B": (SETUP, "with bp.secure_buffer(64): pass"),
    "secure, 4 KiB": (SETUP, "with bp.secure_buffer(4096): pass"),
    "random, 4 KiB": (SETUP, "with bp.random_buffer(4096): pass"),
    "in a job": (JOB.format(False), "with bp.buffer(4096): pass"),
    "in a job, bufpool_task_metrics": (JOB.format(True), "with bp.buffer(4096): pass"),
    "a task, two empty receivers": (TASK.format("connect_empty"), STATEMENT),
    "a task, the plugin": (TASK.format("connect_plugin"), STATEMENT),
}


def main() -> None:
    """Print the instructions of each statement, and keep them if asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.instructions")
    parser.add_argument("--record", type=Path)
    record = parser.parse_args().record
    counts = {}
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed: apt-get install valgrind")
    for name, (setup, statement) in CASES.items():
        few, many = (instructions(setup, statement, count) for count in (FEW, MANY))
        counts[name] = round((many - few) / (MANY - FEW))
        print(f"{counts[name]:10,}  {name}", flush=True)
    if record:
        text = json.dumps(counts, indent=1) + "\n"
        (record / "instructions.json").write_text(text, encoding="utf-8")


def instructions(setup: str, statement: str, count: int) -> int:
    """Count the instructions of a process that runs the statement so often."""
    ran = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, "-c", f"{setup}\nfor _ in range({count}):\n    {statement}"),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    found = _COLLECTED.search(ran.stderr)
    if ran.returncode or found is None:
        sys.exit(f"{statement}: valgrind ended with {ran.returncode}\n{ran.stderr}")
    return int(found[1])


if __name__ == "__main__":
    main()
