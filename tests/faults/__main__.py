"""Recycles children by the thousand: `python -m tests.faults`; record and plot in build/faults."""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.node import Node
from tests.faults.plots import draw
from tests.faults.recycling import ONE_TASK, check, recycle
from tests.support.celery_worker import CeleryWorker
from tests.support.redis_server import RedisServer

_SHM = Path("/dev/shm")  # noqa: S108 (a folder of its own is made there)


def main() -> int:
    """Run it, write the record, and print what is wrong with the run; 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--children", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("build/faults"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        node = _start_node(stack, concurrency=arguments.concurrency)
        samples, found = recycle(node, children=arguments.children, every=2 * arguments.concurrency)
        faults = check(node, samples, found)
        log = node.worker.log()
    rows = [asdict(sample) for sample in samples]
    numbers = {"children": len(found), "faults": faults, "samples": rows}
    (arguments.output / "record.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (arguments.output / "recycling.log").write_text(log)
    title = f"{len(found)} children, one task each; warm before it: {_warm(found)}"
    draw(arguments.output / "record.png", samples, title=title)
    print(title, *faults, sep="\n")
    return 1 if faults else 0


def _start_node(stack: ExitStack, *, concurrency: int) -> Node:
    redis = stack.enter_context(RedisServer())
    base = _SHM if _SHM.is_dir() else None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-", dir=base)))
    directory = folder / "metrics"
    directory.mkdir()

    def start(app: str, **options: Any) -> CeleryWorker:
        worker = CeleryWorker(app, folder=Path(__file__).parent, log=folder / "log", **options)
        stack.callback(worker.close)
        return worker.wait_ready()

    return Node(
        start,
        redis=redis,
        folder=folder,
        directory=directory,
        concurrency=concurrency,
        arguments=ONE_TASK,
    )


def _warm(found: list[dict[str, Any]]) -> int:
    return sum(not child["gets"] and not child["misses_after"] for child in found)


if __name__ == "__main__":
    sys.exit(main())
