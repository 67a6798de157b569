"""A storm of deaths: writers and compactors killed at random while a reader looks for steps back.

`python storm.py --writers 10000 --compactors 500` prints what was expected and what was read as
JSON, and exits with 1 unless they are equal and no scrape was below the one before.

Each writer counts as fast as it can until it is killed or has counted enough. How far it came is
read from its own file through a descriptor opened before its first store, so that a store that a
compaction missed, or took twice, shows in the sum.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from prometheus_client import Counter

from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.compaction import compact
from bufpool_workers.counters.format import read_used
from bufpool_workers.counters.names import FileName
from bufpool_workers.counters.snapshot import read_directory, read_entries
from tests.support.counters import make_file

ALIVE = 3
BURST = 3000


class Writer:
    """One process that counts until it is killed."""

    def __init__(self, directory: Path, *, foreign: bool) -> None:
        self._said, say = os.pipe()
        hear, self._go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            run_child(lambda: (count_foreign if foreign else count)(directory, say, hear))
        os.close(say)
        os.close(hear)
        self._file: int | None = None

    def begin(self) -> None:
        """Start it once its file can be followed."""
        name = os.read(self._said, 4096)
        self._file = os.open(name, os.O_RDONLY)
        os.write(self._go, b".")

    def kill(self) -> float:
        """Kill it, and say how far it had come."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._said)
        os.close(self._go)
        if self._file is None:
            return 0.0
        data, used = read_used(self._file, whole=False)
        entries = read_entries(data, used=used, name=FileName.parse("counter_1.db"))
        os.close(self._file)
        return sum(number.value for (number,) in entries.values())


def run_child(work):
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent has to see it
        os.write(2, repr(error).encode() + b"\n")
    finally:
        os._exit(1)


def count(directory, say, hear):
    file = make_file(directory, catalog=Catalog(), pools={"regular": ("2kb", "4kb")})
    os.write(say, os.fsencode(file.path))
    os.read(hear, 1)
    doubles = memoryview(file.buffer).cast("d")
    slots = [offset // 8 for offset in file.offsets("regular")[:2]]
    for _ in range(BURST):
        for slot in slots:
            doubles[slot] += 1.0
    signal.pause()


def count_foreign(directory, say, hear):
    counter = Counter("jobs", "Jobs done", ["queue"], registry=None)
    children = [counter.labels("mail"), counter.labels("web")]
    os.write(say, os.fsencode(directory / f"counter_{os.getpid()}.db"))
    os.read(hear, 1)
    for _ in range(BURST):
        for child in children:
            child.inc()
    signal.pause()


def compact_forever(directory):
    while True:
        compact(directory, foreign=True)


def total_of(directory):
    snapshot = read_directory(directory)
    if snapshot.unreadable:
        raise AssertionError(f"files skipped: {snapshot.unreadable}")
    return sum(number.value for *_, number in snapshot.merged())


def watch(directory, result, stop):
    scrapes = back = 0
    last = 0.0
    os.set_blocking(stop, False)
    while True:
        with contextlib.suppress(BlockingIOError):
            os.read(stop, 1)
            break
        now = total_of(directory)
        back += now < last
        last, scrapes = now, scrapes + 1
    os.write(result, json.dumps([scrapes, back]).encode())
    os._exit(0)


def fork(work):
    pid = os.fork()
    if pid == 0:
        run_child(work)
    return pid


def storm(directory: Path, *, writers: int, compactors: int, seed: int) -> dict[str, object]:
    dice = random.Random(seed)
    result, stop = os.pipe(), os.pipe()
    reader = fork(lambda: watch(directory, result[1], stop[0]))
    os.close(result[1])
    compactor = fork(lambda: compact_forever(directory))
    every = max(1, writers // max(1, compactors))
    alive: list[Writer] = []
    expected, killed_compactors, most = 0.0, 0, 0
    for number in range(writers):
        writer = Writer(directory, foreign=dice.random() < 0.3)
        if dice.random() < 0.9:
            writer.begin()
        alive.append(writer)
        if len(alive) > ALIVE:
            expected += alive.pop(dice.randrange(len(alive))).kill()
        if number % every == every - 1:
            os.kill(compactor, signal.SIGKILL)
            os.waitpid(compactor, 0)
            killed_compactors += 1
            compactor = fork(lambda: compact_forever(directory))
        most = max(most, len(list(directory.iterdir())))
    expected += sum(writer.kill() for writer in alive)
    os.kill(compactor, signal.SIGKILL)
    os.waitpid(compactor, 0)
    before = total_of(directory)
    compact(directory, foreign=True)
    os.write(stop[1], b".")
    with os.fdopen(result[0], "rb") as pipe:
        scrapes, back = json.loads(pipe.read() or b"[0, -1]")
    os.waitpid(reader, 0)
    os.close(stop[0])
    os.close(stop[1])
    left = sorted(path.name for path in directory.iterdir())
    return {
        "writers": writers,
        "compactors": killed_compactors,
        "expected": expected,
        "read": before,
        "read_after_compaction": total_of(directory),
        "scrapes": scrapes,
        "steps_back": back,
        "most_files": most,
        "files_left": left,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--writers", type=int, default=10_000)
    parser.add_argument("--compactors", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", help="where to make the files (a temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        from prometheus_client import metrics, values  # noqa: PLC0415

        values.ValueClass = values.MultiProcessValue()
        metrics.values.ValueClass = values.ValueClass
        outcome = storm(
            Path(directory),
            writers=arguments.writers,
            compactors=arguments.compactors,
            seed=arguments.seed,
        )
    print(json.dumps(outcome))  # noqa: T201 - its result
    exact = outcome["expected"] == outcome["read"] == outcome["read_after_compaction"]
    return 0 if exact and outcome["steps_back"] == 0 and outcome["scrapes"] else 1


if __name__ == "__main__":
    sys.exit(main())
