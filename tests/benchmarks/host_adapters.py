"""What the adapters of other job systems gain and cost, in their own workers."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from huey import MemoryHuey
from redis import Redis
from rq import Queue

from bufpool_workers.dramatiq import BufpoolMiddleware
from bufpool_workers.huey import setup
from bufpool_workers.runtime import Job as RunningJob
from bufpool_workers.runtime import current_runtime
from tests.benchmarks.report import Table, duration
from tests.benchmarks.timing import Case, Timing, measure
from tests.support.dramatiq_client import DramatiqClient
from tests.support.host_process import HostProcess
from tests.support.redis_server import RedisServer

JOBS = 400
ROUNDS = 51
_FOLDER = Path(__file__).parents[2]
_WARM = {"regular": {"1MiB": 2}, "secure": {}, "random": {}}
_JOBS = "tests.benchmarks.host_jobs"
_COST_REACH = 5e-6
Run = Callable[[], list[float]]


def tables() -> Iterator[Table]:
    yield bodies()
    yield costs()


def bodies() -> Table:
    table = Table("hosts", "a job that fills two arrays of 1 MiB, its body, in a real worker")
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, start, reach in (
            ("RQ SimpleWorker", rq_worker, 0.1),
            ("Dramatiq actor", dramatiq_worker, None),
        ):
            runs = [
                start(stack, server, folder / f"{name} {kind}.log", kind=kind)
                for kind in ("pooled", "bytearrays")
            ]
            ours, rival = in_turns(runs)
            table.add(
                Timing(f"{name}: two buffers", ours), Timing("two bytearrays", rival), reach=reach
            )
    table.notes.append("each body in a worker of its own, in turns; thread time of the body alone")
    return table


def in_turns(runs: list[Run]) -> list[list[float]]:
    """Run the workers' jobs in turns, part by part; the first part is not counted."""
    seconds: list[list[float]] = [[] for _ in runs]
    for part in range(5):
        for run, kept in zip(runs, seconds, strict=True):
            found = run()
            if part:
                kept.extend(found)
    return seconds


def rq_worker(stack: ExitStack, server: RedisServer, log: Path, *, kind: str) -> Run:
    url = server.client_url()
    worker = "bufpool_workers.rq.SimpleWorker" if kind == "pooled" else "rq.SimpleWorker"
    command = ["rq", "worker", f"--worker-class={worker}", f"--url={url}", "--logging_level=WARN"]
    stack.enter_context(host(command, url, log))
    redis = stack.enter_context(Redis.from_url(url))
    queue = Queue(connection=redis)

    def run() -> list[float]:
        jobs = [queue.enqueue(f"{_JOBS}.{kind}") for _ in range(JOBS // 4)]
        found = [job.latest_result(timeout=60) for job in jobs]
        return [result.return_value for result in found if result is not None]

    return run


def dramatiq_worker(stack: ExitStack, server: RedisServer, log: Path, *, kind: str) -> Run:
    url = server.client_url()
    command = ["dramatiq", _JOBS, "--processes=1", "--threads=1"]
    stack.enter_context(
        host(command, url, log, **({"BENCHMARK_POOLED": "1"} if kind == "pooled" else {}))
    )
    client = DramatiqClient(url)
    stack.callback(client.close)

    def run() -> list[float]:
        sent = [client.send(kind) for _ in range(JOBS // 4)]
        return [client.result(message) for message in sent]

    return run


def host(command: list[str], url: str, log: Path, **env: str) -> HostProcess:
    settings = {"metrics_port": None, "warm": _WARM}
    env |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(_FOLDER)}
    return HostProcess(command, broker=url, log=log, settings=settings, env=env, folder=_FOLDER)


def costs() -> Table:
    """Time what each adapter does at a job's begin and end, less a call of its body."""
    table = Table("host_cost", "the adapter's own cost for a job that uses no buffer")
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            Case("a call", "body()", lambda: {"body": body}),
            Case("Dramatiq", "before(b, m); body(); after(b, m)", partial(of_dramatiq, folder)),
            Case("RQ", "begin(job()); body(); end(current())", partial(of_rq, folder)),
            Case("Huey", "begin(t); body(); end(t, None, None)", partial(of_huey, folder)),
        ]
        plain, *adapters = measure(cases, rounds=ROUNDS)
    for adapter in adapters:
        table.add(adapter, plain)
        table.notes.append(
            f"{adapter.name}: {duration(adapter.median - plain.median)} "
            f"(reach: {duration(_COST_REACH)})"
        )
    return table


def body() -> None:
    pass


def of_dramatiq(folder: str) -> Mapping[str, Any]:
    current_runtime().reset()
    broker = StubBroker(middleware=[])
    middleware = BufpoolMiddleware({"metrics_dir": folder})
    current_runtime().start_process()
    message = MessageProxy(Message("default", "echo", (), {}, {}))
    return {
        "b": broker,
        "m": message,
        "body": body,
        "before": middleware.before_process_message,
        "after": middleware.after_process_message,
    }


def of_rq(folder: str) -> Mapping[str, Any]:
    from bufpool_workers.runtime import configure, current_job  # noqa: PLC0415 - this case alone

    current_runtime().reset()
    configure({"metrics_dir": folder})
    current_runtime().start_process()
    return {
        "job": partial(RunningJob, "id", "name"),
        "current": current_job,
        "body": body,
        "begin": current_runtime().begin_job,
        "end": current_runtime().end_job,
    }


def of_huey(folder: str) -> Mapping[str, Any]:
    current_runtime().reset()
    huey = MemoryHuey("measured")
    setup(huey, {"metrics_dir": folder})
    task = huey.task()(body).s()
    current_runtime().start_process()
    hooks = (huey._pre_execute["bufpool"], huey._post_execute["bufpool"])
    return {"t": task, "body": body, "begin": hooks[0], "end": hooks[1]}
