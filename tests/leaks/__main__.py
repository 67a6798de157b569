"""Prints the tables of what secrets leave behind: `python -m tests.leaks`, as root or the owner."""

import argparse
import json
import platform
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.leaks import measure, on_the_way
from tests.leaks.page import show
from tests.support.celery_worker import CeleryWorker
from tests.support.redis_server import RedisServer


def main() -> None:
    """Measure every arm with 20 secrets, then what reads a secret in use, then the queue."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--record", type=Path, default=Path("build/leaks.json"))
    record = parser.parse_args().record
    with RedisServer() as server:
        found = {
            "machine": _machine(),
            "after their tasks": {arm.name: _endings(arm, server) for arm in measure.ARMS},
            "in use": {arm.name: _held(arm, server) for arm in measure.ARMS[:3]},
            "on the way": _on_the_way(server),
        }
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(show(found))


def _machine() -> dict[str, str]:
    versions = {
        "Linux": platform.release(),
        "Python": platform.python_version(),
        "Celery": version("celery"),
    }
    return {name: ".".join(text.split(".")[:2]) for name, text in versions.items()}


def _endings(arm: measure.Arm, server: RedisServer) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        rows = measure.run_endings(arm, broker=server.celery_url(), folder=Path(folder))
    return {row.ending: f"{row.child} + {row.main}" for row in rows}


def _held(arm: measure.Arm, server: RedisServer) -> dict[str, str]:
    with (
        tempfile.TemporaryDirectory() as folder,
        measure.holding(arm, broker=server.celery_url(), folder=Path(folder)) as held,
    ):
        _, pid, scanner = held
        outside = len(scanner.process(pid))
    with tempfile.TemporaryDirectory() as folder:
        cores = measure.scan_cores(arm, broker=server.celery_url(), folder=Path(folder))
    readers = {"`/proc/PID/mem`": outside, **cores}
    return {
        name: {None: "not here", 0: "no"}.get(number, "yes") for name, number in readers.items()
    }


def _on_the_way(server: RedisServer) -> dict[str, dict[str, int]]:
    found = {}
    for what, scan in (("argument", on_the_way.of_argument), ("result", on_the_way.of_result)):
        for kind in ("plain", "sealed"):
            with tempfile.TemporaryDirectory() as name, _workers(Path(name)) as start:
                found[f"{kind} {what}"] = scan(
                    kind, redis_server=server, start_worker=start, folder=Path(name)
                )
    return found


@contextmanager
def _workers(folder: Path) -> Iterator[on_the_way.StartWorker]:
    with ExitStack() as stack:

        def start(app: str, **options: Any) -> CeleryWorker:
            worker = CeleryWorker(app, folder=on_the_way.APPS, log=folder / "log", **options)
            stack.callback(worker.close)
            return worker.wait_ready()

        yield start


if __name__ == "__main__":
    main()
