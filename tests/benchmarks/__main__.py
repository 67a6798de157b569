"""`python -m tests.benchmarks [SECTION ...]`: what the pools cost and gain, measured here."""

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

from .report import Table, console, machine, save

# numpy's threads have no part in this, and a forked process must not inherit any
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SECTIONS = ("targets", "micro", "workloads", "through_worker")
OPTIONAL = ("go_original",)  # needs Go


def main() -> None:
    # ended by a signal, it still ends the worker and the Redis that it started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "section", nargs="*", default=list(SECTIONS), help=", ".join(SECTIONS + OPTIONAL)
    )
    parser.add_argument("--results", type=Path, default=Path("build/benchmarks"), metavar="FOLDER")
    arguments = parser.parse_args()
    if unknown := set(arguments.section) - {*SECTIONS, *OPTIONAL}:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    for key, value in machine().items():
        console.print(f"{key}: {value}")
    done: list[Table] = []
    for section in arguments.section:
        for table in importlib.import_module(f".{section}", __package__).tables():
            table.show()
            done.append(table)
    arguments.results.mkdir(parents=True, exist_ok=True)
    save(arguments.results / "results.json", done)
    # not at the top: no measured process shall inherit it
    from .plots import draw  # noqa: PLC0415

    pictures = draw(arguments.results, done)
    console.print(f"\nresults.json and {len(pictures)} plots are in {arguments.results}")


if __name__ == "__main__":
    main()
