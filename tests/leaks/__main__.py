"""Prints the tables of what secrets leave behind: `python -m tests.leaks`, as root or the owner."""

import tempfile
from pathlib import Path

from tests.leaks import measure
from tests.support.redis_server import RedisServer


def main() -> None:
    """Measure every arm with 20 secrets, then the dumps."""
    print("secrets found after their tasks, of 4 (child + main process)\n")
    print(_line("", *measure.ENDINGS, "forms"))
    with RedisServer() as server:
        for arm in measure.ARMS:
            with tempfile.TemporaryDirectory() as folder:
                rows = measure.run_endings(arm, broker=server.celery_url(), folder=Path(folder))
            cells = (f"{row.child} + {row.main}" for row in rows)
            forms = set().union(*(row.forms for row in rows))
            print(_line(arm.name, *cells, ", ".join(sorted(forms)) or "none"), flush=True)
        print("\na secret while it is held: found by a reader from outside, and in dumps\n")
        print(_line("", "/proc/PID/mem", *measure.CORES))
        for arm in measure.ARMS[:3]:
            print(_line(arm.name, *_held(arm, server)), flush=True)


def _held(arm: measure.Arm, server: RedisServer) -> list[str]:
    with (
        tempfile.TemporaryDirectory() as folder,
        measure.holding(arm, broker=server.celery_url(), folder=Path(folder)) as held,
    ):
        _, pid, scanner = held
        outside = len(scanner.process(pid))
    with tempfile.TemporaryDirectory() as folder:
        cores = measure.scan_cores(arm, broker=server.celery_url(), folder=Path(folder))
    return [_word(number) for number in (outside, *cores.values())]


def _word(number: int | None) -> str:
    return {None: "not here", 0: "no"}.get(number, "yes")


def _line(name: str, *cells: str) -> str:
    return f"{name:22}" + "".join(f"{cell:>15}" for cell in cells)


if __name__ == "__main__":
    main()
