"""Large nodes: what grows with processes, places, memory and nodes, and how fast it grows."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median

import psutil

import bufpool_workers as bp
from bufpool_workers import MiB, testing
from bufpool_workers.metrics import compact
from tests.benchmarks.directories import create, many_series, new_directory
from tests.benchmarks.live_workers import WAIT_SECONDS, workers
from tests.benchmarks.prepared import Names
from tests.benchmarks.report import Row, Table
from tests.benchmarks.scrape import STOCK, Answer, endpoint, stock_registry
from tests.benchmarks.timing import Case, Sample, Timing, in_process, in_turns, measure
from tests.support.celery_worker import CeleryWorker
from tests.support.redis_server import RedisServer

LIVING = 20, 200
SERIES, FILES = 200_000, 4
GONE = 2_000, 20_000
PLACES = 1, 1_000
WARM = 128, 1024
NODES = 10, 50
CHILDREN = 100, 500
LENDINGS = 1_000
BATCH = 10
LINEAR = 1.1
ROOT = Path(__file__).parents[2]


def tables() -> Iterator[Table]:
    yield living()
    yield series()
    yield gone()
    yield places()
    yield warm()
    yield recycled()
    yield from nodes()


def living() -> Table:
    """Compare what the endpoint answers for 200 living processes with what it does for 20."""
    few, many = LIVING
    table = Table("scale_living", f"{many} living processes against {few}: 10 is linear")
    for what, path in (("scrape", "/metrics"), ("page", "/"), ("numbers", "/status.json")):
        ours, rival = measure(
            [
                Case(f"{count} living", "get()", partial(answering, path, count))
                for count in (many, few)
            ],
            rounds=11,
            seconds=0.05,
        )
        table.add(ours, rival, what=f"{what}, {many} living", reach=many / few * LINEAR)
    return table


def answering(path: str, count: int) -> Names:
    directory = new_directory()
    files = [create(directory) for _ in range(count)]
    return {"get": endpoint(directory, at=path), "living": files}


def series() -> Table:
    """Compare scrapes of very many series of the user's, the first one too, with the stock one."""
    table = Table("scale_series", f"{SERIES:,} different series of the user's, in {FILES} files")
    ours, first, stock = (
        Timing(name, [in_process(partial(scraping, answers, times)) for _ in range(3)])
        for name, answers, times in (
            ("later scrapes", endpoint, 2),
            ("the first scrape", endpoint, 1),
            (STOCK, stock_registry, 1),
        )
    )
    table.add(ours, stock, reach=0.5)
    table.add(first, stock)
    return table


def scraping(answers: Callable[[Path], Answer], times: int) -> float:
    answer = answers(many_series(SERIES, files=FILES))
    for _ in range(times):
        began = time.process_time()
        answer()
        spent = time.process_time() - began
    return spent


def gone() -> Table:
    """Compare the merging of 20,000 dead processes' files with that of 2,000."""
    few, many = GONE
    table = Table("scale_gone", f"{many} dead processes are merged at once: 10 is linear")
    ours, rival = (
        Timing(f"{count} dead", [in_process(partial(merge, count)) for _ in range(2)])
        for count in (many, few)
    )
    table.add(ours, rival, what=f"merging {many} files", reach=many / few * LINEAR)
    return table


def merge(count: int) -> float:
    directory = new_directory()
    for _ in range(count):
        create(directory).close()
    began = time.process_time()
    compact(directory)
    spent = time.process_time() - began
    if (left := sum(1 for _ in directory.iterdir())) > 2:
        raise AssertionError(f"{left} files are left of {count}")
    return spent


def places() -> Table:
    """Compare lending under bufpool_debug as buffers come from ever more places."""
    few, many = PLACES
    table = Table("scale_places", f"bufpool_debug: lending from {many} places against {few}")
    ours, rival = measure(
        [Case(f"{count} places", "run()", partial(debugging, count)) for count in (many, few)]
    )
    table.add(ours, rival, what=f"{LENDINGS} lendings, {many} places", reach=LINEAR)
    return table


def debugging(count: int) -> Names:
    settings = {"bufpool_debug": True, "bufpool_warm": {"regular": {"4KiB": 4}}}
    testing.configure(bp.Settings.read(settings))
    bp.current_pools().warm()
    # a module each, since a line's number costs more the further down it stands
    sources = [f"place{number}" for number in range(count)] * (LENDINGS // count)
    codes = [compile("with lend(4096): pass", name, "exec") for name in sources]
    names = {"lend": bp.buffer}

    def run() -> None:
        for code in codes:
            exec(code, names)  # noqa: S102 - each is a place of its own

    return {"run": run}


def warm() -> Table:
    """Compare the warming of 1 GiB with that of 128 MiB, and with pages that Python touches.

    They take turns, and a first round is not counted: a virtual machine may first have to get the
    memory from its host, which took 25 times as long as making it warm.
    """
    few, many = WARM
    table = Table("scale_warm", f"{many} MiB are made warm: 8 is linear")
    samples = in_turns(
        {
            f"{many} MiB in buffers of 1 MiB": lambda: in_process(partial(warming, many)),
            f"{few} MiB": lambda: in_process(partial(warming, few)),
            f"a bytearray of {many} MiB": lambda: in_process(partial(filling, many)),
        },
        7,
    )
    ours, less, touched = (
        Timing(name, [sample["seconds"] for sample in taken]) for name, taken in samples.items()
    )
    table.add(ours, less, reach=many / few * LINEAR)
    table.add(ours, touched)
    table.notes += [
        f"{name}: {median(sample['huge'] for sample in taken):.0%} in huge pages"
        for name, taken in samples.items()
    ]
    return table


def warming(count: int) -> Sample:
    settings = {
        "bufpool_warm": {"regular": {"1MiB": count}, "secure": {}, "random": {}},
        "bufpool_max_bytes": {"regular": 2 * count * MiB},
    }
    testing.configure(bp.Settings.read(settings))
    pools = bp.current_pools()
    began = time.process_time()
    if not pools.warm(seconds=60).complete:
        raise TimeoutError("not warm after a minute")
    seconds = time.process_time() - began
    return {"seconds": seconds, "huge": huge_bytes() / (count * MiB)}


def filling(count: int) -> Sample:
    began = time.process_time()
    filled = bytearray(count * MiB)
    filled[::4096] = bytes(count * MiB // 4096)
    seconds = time.process_time() - began
    return {"seconds": seconds, "huge": huge_bytes() / len(filled)}


def huge_bytes() -> int:
    """Return the bytes of this process that lie in huge pages."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:")) * 1024


def recycled() -> Table:
    """Compare the main process's memory after 500 children of one task each with after 100."""
    few, many = CHILDREN
    table = Table(
        "scale_recycled", f"the main process's memory after {many} children, one task each"
    )
    with workers("--concurrency=2", "--max-tasks-per-child=1", apps=("idle",)) as running:
        process = running["idle"]
        main = psutil.Process(process.pid)
        memory = []
        done = 0
        for count in (few, many):
            while done < count:
                pending = [process.send("echo", number) for number in range(20)]
                for each in pending:
                    process.result(each)
                done += len(pending)
            memory.append(float(main.memory_full_info().uss))
    sooner, later = memory
    ratio = later / sooner
    table.rows.append(
        Row(f"after {many}", f"after {few}", later, sooner, *[ratio] * 3, LINEAR, unit="bytes")
    )
    return table


def nodes() -> Iterator[Table]:
    """Compare the numbers of 50 nodes with Celery's own `inspect ping`, and with those of 10."""
    few, many = NODES
    seconds: dict[tuple[str, int], Timing] = {}
    with RedisServer() as redis, tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        broker = redis.celery_url()
        started: list[CeleryWorker] = []
        for count in NODES:
            while len(started) < count:
                batch = [
                    running.enter_context(closing(solo_worker(broker, Path(folder))))
                    for _ in range(BATCH)
                ]
                started += [worker.wait_ready() for worker in batch]
            for command in ("bufpool_stats", "ping"):
                taken = [answers(started[0], command, count) for _ in range(7)]
                seconds[command, count] = Timing(f"{command}, {count} nodes", taken)
    table = Table("scale_nodes", f"{many} nodes on one Redis answer `inspect`: 5 is linear")
    ours = seconds["bufpool_stats", many]
    table.add(ours, seconds["bufpool_stats", few], reach=many / few * LINEAR)
    table.add(ours, seconds["ping", many])
    yield table


def solo_worker(broker: str, folder: Path) -> CeleryWorker:
    return CeleryWorker(
        f"{__package__}.idle_app:app",
        broker=broker,
        folder=ROOT,
        log=Path(tempfile.mkstemp(dir=folder)[1]),
        arguments=["--loglevel=WARNING", "--pool=solo"],
    )


def answers(worker: CeleryWorker, command: str, count: int) -> float:
    began = time.perf_counter()
    replies = worker.client.control.broadcast(
        command, reply=True, timeout=WAIT_SECONDS, limit=count
    )
    taken = time.perf_counter() - began
    if len(replies) != count:
        raise AssertionError(f"{len(replies)} of {count} nodes answered {command}")
    return taken
