"""Loads two worker nodes, disturbs them, and judges: `python -m tests.soak --seconds 120`."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from tests.soak.faults import NAMES
from tests.soak.report import write
from tests.soak.scenario import Scenario

_LAYOUTS = ("one directory", "two directories")


def main() -> int:
    """Run one scenario per layout; exit status 1 unless every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument(
        "--seconds", type=float, default=120, help="under load, both scenarios together"
    )
    parser.add_argument("--layout", choices=_LAYOUTS, action="append", help="both, unless given")
    parser.add_argument("--fault", choices=NAMES, action="append", help="all, unless given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/soak"))
    parser.add_argument("--record", type=Path, help="a folder to keep record.json and .png in")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    layouts = arguments.layout or _LAYOUTS
    outcomes, began = [], time.monotonic()
    for layout in layouts:
        scenario = Scenario(
            layout,
            seconds=arguments.seconds / len(layouts),
            seed=arguments.seed + len(outcomes),
            folder=folder / layout.replace(" ", "-"),
            began=began,
            faults=tuple(arguments.fault or NAMES),
            ended_before=outcomes[-1].series.ended[-1] if outcomes else 0,
        )
        outcomes.append(scenario.run())
    print(write(folder, outcomes, seconds=arguments.seconds))
    if arguments.record:
        for path in folder.glob("record.*"):
            shutil.copy(path, arguments.record)
    return 0 if all(check.kept for outcome in outcomes for check in outcome.checks) else 1


if __name__ == "__main__":
    sys.exit(main())
