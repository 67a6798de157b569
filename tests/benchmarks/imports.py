"""What the plugin costs before the first task: in a producer, and in a worker that is ready."""

import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

from tests.benchmarks.live_workers import family, processor_seconds, workers
from tests.benchmarks.report import Row, Table
from tests.benchmarks.timing import Timing

PRODUCER_ROUNDS = 15
WORKER_ROUNDS = 9
CELERY = "import celery; app = celery.Celery('shop', broker='memory://')"
# not getrusage(2), which counts what the process had before it ran Python
PEAK = "; print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM:')))"
PRODUCERS = {
    "Celery alone": CELERY,
    "with the plugin": f"{CELERY}; import bufpool_workers; bufpool_workers.setup(app)",
}
WORKERS = {"without": "plain", "with the plugin": "idle"}

Sample = Mapping[str, float]


def tables() -> Iterator[Table]:
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


def producer(code: str) -> Sample:
    before = spent_by_children()
    shown = subprocess.run(
        [sys.executable, "-c", code + PEAK], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    spent = spent_by_children() - before
    return {"processor time": spent, "memory": int(shown.split()[1]) * 1024.0}


def spent_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def worker(app: str) -> Sample:
    with workers("--concurrency=2", apps=(app,)) as running:
        spent = processor_seconds(running[app])
        main, *children = (process.memory_info().rss for process in family(running[app]))
    return {"processor time": spent, "main process": main, "a child": max(children)}


def in_turns(samplers: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """Sample each once per round, in random order; the first round warms the file cache."""
    samples: dict[str, list[Sample]] = {name: [] for name in samplers}
    for _ in range(rounds + 1):
        for name, sample in random.sample(list(samplers.items()), len(samplers)):
            samples[name].append(sample())
    return {name: taken[1:] for name, taken in samples.items()}


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
