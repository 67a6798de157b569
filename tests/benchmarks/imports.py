"""What is paid before any work: by a producer, by a worker that is ready, by a command."""

import compileall
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from tests.benchmarks.directories import create, new_directory
from tests.benchmarks.live_workers import family, processor_seconds, workers
from tests.benchmarks.report import Row, Table
from tests.benchmarks.timing import Sample, Timing, in_turns

PRODUCER_ROUNDS = 15
WORKER_ROUNDS = 9
CELERY = "import celery; app = celery.Celery('shop', broker='memory://')"
# not getrusage(2), which counts what the process had before it ran Python
PEAK = "; print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM:')))"
PRODUCERS = {
    "Celery alone": CELERY,
    "with the plugin": f"{CELERY}; import bufpool_workers; bufpool_workers.setup(app)",
}
COMMAND_ROUNDS = 11
LIVING = 2, 200
WORKERS = {"without": "plain", "with the plugin": "idle"}

ROOT = Path(__file__).parents[2]


def tables() -> Iterator[Table]:
    compile_package()
    yield compared(
        Table("import_producer", "a producer: a process that imports its app and ends"),
        in_turns(
            {name: lambda code=code: producer(code) for name, code in PRODUCERS.items()},
            PRODUCER_ROUNDS,
        ),
        reaches={"processor time": 1.2},
    )
    yield compared(
        Table("import_worker", "a worker of two children without a port, nothing warm, at ready"),
        in_turns(
            {name: lambda app=app: worker(app) for name, app in WORKERS.items()}, WORKER_ROUNDS
        ),
        reaches={"processor time": 1.05, "main process": 1.05, "a child": 1.05},
    )
    yield commands()


def compile_package() -> None:
    """Compile this package's modules to files, as pip does with those of Celery.

    A checkout's are compiled at their first use, or where PYTHONDONTWRITEBYTECODE is set, at each.
    """
    if not compileall.compile_dir(ROOT / "bufpool_workers", quiet=1):
        raise RuntimeError("not all modules of bufpool_workers could be compiled")


def commands() -> Table:
    """Compare commands that show a node's numbers with the least that Celery's command does."""
    directories = {count: new_directory() for count in LIVING}
    living = [create(path) for count, path in directories.items() for _ in range(count)]
    plain = [sys.executable, "-m", "bufpool_workers", "status"]
    celery = [sys.executable, "-m", "celery"]
    app = [*celery, "-A", f"{__package__}.shop_app:app"]
    arguments = {
        "celery --help": [*celery, "--help"],
        **{
            f"bufpool status, {count} processes": [*plain, str(directories[count])]
            for count in LIVING
        },
        "celery bufpool status": [*app, "bufpool", "status", str(directories[min(LIVING)])],
    }
    samples = in_turns(
        {name: lambda given=given: command(given) for name, given in arguments.items()},
        COMMAND_ROUNDS,
    )
    least, *ours = (
        Timing(name, [sample["processor time"] for sample in taken])
        for name, taken in samples.items()
    )
    table = Table("import_commands", "commands, from their start to their end: processor time")
    for timing in ours:
        table.add(timing, least)
    over = median(a - b for a, b in zip(ours[-1].seconds, least.seconds, strict=True))
    table.notes += [
        "reach: 0.25 s for 2 processes and 0.35 s for 200",
        f"celery bufpool status takes {over:.3f} s more than celery --help (reach: 0.15 s)",
    ]
    for file in living:
        file.close()
    return table


def command(arguments: Sequence[str]) -> Sample:
    return measured(arguments)[0]


def producer(code: str) -> Sample:
    spent, shown = measured([sys.executable, "-c", code + PEAK])
    return {**spent, "memory": int(shown.split()[1]) * 1024.0}


def measured(arguments: Sequence[str]) -> tuple[Sample, str]:
    """Run a program; what it took of the processors, and what it printed."""
    before = spent_by_children()
    shown = subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    ).stdout
    return {"processor time": spent_by_children() - before}, shown


def spent_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def worker(app: str) -> Sample:
    with workers("--concurrency=2", apps=(app,)) as running:
        spent = processor_seconds(running[app])
        main, *children = (process.memory_info().rss for process in family(running[app]))
    return {"processor time": spent, "main process": main, "a child": max(children)}


def compared(
    table: Table, samples: Mapping[str, list[Sample]], *, reaches: Mapping[str, float]
) -> Table:
    """Add a row for each quantity: the plugin's against the rival's, round by round."""
    (rival, theirs), (_name, ours) = samples.items()
    for what in ours[0]:
        mine, other = (
            Timing(name, [sample[what] for sample in taken])
            for name, taken in (("with the plugin", ours), (rival, theirs))
        )
        table.add(mine, other, what=what, reach=reaches.get(what))
        if what != "processor time":
            table.rows[-1] = in_bytes(table.rows[-1])
    return table


def in_bytes(row: Row) -> Row:
    return Row(**{**vars(row), "unit": "bytes"})
