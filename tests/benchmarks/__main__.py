"""`python -m tests.benchmarks [SECTION ...]`: what the pools cost and gain, measured here."""

import argparse
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.machine import busy, machine
from tests.benchmarks.record import save
from tests.benchmarks.report import Table, console

# numpy's threads have no part in this, and a forked process must not inherit any
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SECTIONS = (
    "targets",
    "micro",
    "secure",
    "sealing",
    "workloads",
    "tune_malloc",
    "metrics",
    "scrape",
    "task_cost",
    "imports",
    "scale",
    "hosts",
    "through_worker",
    "monitors",
)
OPTIONAL = {"go_original": "needs Go", "pythons": "needs other Pythons"}


def main() -> None:
    # ended by a signal, it still ends the workers and the Redis that it started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    arguments = parse()
    about = machine()
    for key, value in about.items():
        console.print(f"{key}: {value}", markup=False)
    if warning := busy():
        console.print(f"[yellow]{warning}[/yellow]")
    done: list[Table] = []
    failed = []
    for section in arguments.section:
        began = time.monotonic()
        try:
            for table in run(section):
                table.show()
                done.append(table)
        except Exception:  # noqa: BLE001 - what the other sections measure is not lost with it
            traceback.print_exc()
            failed.append(section)
        console.print(f"\n{section}: {time.monotonic() - began:.0f} s")
    save(arguments.record, done, machine=about)
    # not at the top: no measured process shall inherit it
    from tests.benchmarks.plots import draw  # noqa: PLC0415

    names = ["tables.md", "results.json", *(path.name for path in draw(arguments.record, done))]
    console.print(f"in {arguments.record}: {', '.join(names)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    optional = ", ".join(f"{name} ({what})" for name, what in OPTIONAL.items())
    parser.add_argument(
        "section",
        nargs="*",
        help=f"{', '.join(SECTIONS)}: all of these unless named; and {optional}",
    )
    parser.add_argument(
        "--record",
        type=Path,
        default=Path("build/benchmarks"),
        metavar="FOLDER",
        help="where tables.md, results.json and the pictures go (%(default)s)",
    )
    arguments = parser.parse_args(argv)
    arguments.section = arguments.section or list(SECTIONS)
    if unknown := set(arguments.section) - {*SECTIONS, *OPTIONAL}:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    return arguments


def run(section: str) -> Iterator[Table]:
    """The tables of a section, each as soon as it is measured."""
    yield from importlib.import_module(f".{section}", __package__).tables()


if __name__ == "__main__":
    main()
