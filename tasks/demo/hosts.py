"""The demo on another job system: `python -m tasks.demo dramatiq` (rq, huey, futures)."""

import hashlib
import json
import os
import secrets
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

import bufpool_workers as bp
from bufpool_workers.futures import start_node, start_process
from tasks.demo import DemoError, node

JOBS = 40
FACTOR = 0.5
RESULT_SECONDS = 60
_WARM = {"regular": {"1MiB": 2, "4MiB": 2}, "secure": {"2KiB": 1}, "random": {}}


class Host(NamedTuple):
    """A job system: its command, how it names a function, how a job is sent and awaited.

    An executor has no command: its processes are children of the demo.
    """

    command: list[str]
    prefix: str
    send: Callable[..., Any]
    result: Callable[[Any], Any]


def _dramatiq() -> Host:
    from tasks import dramatiq as app  # noqa: PLC0415 - needs the broker's URL

    return Host(
        ["dramatiq", "tasks.dramatiq", "--processes=2", "--threads=2"],
        "",
        lambda name, *args, **kwargs: getattr(app, name).send(*args, **kwargs),
        lambda sent: sent.get_result(block=True, timeout=RESULT_SECONDS * 1000),
    )


def _rq() -> Host:
    from tasks import rq as app  # noqa: PLC0415 - needs the broker's URL

    def result(job: Any) -> Any:
        found = job.latest_result(timeout=RESULT_SECONDS)
        return None if found is None else found.return_value

    url = os.environ["BUFPOOL_BROKER_URL"]
    return Host(
        ["rq", "worker", "--worker-class=bufpool_workers.rq.SimpleWorker", f"--url={url}"],
        "tasks.rq.",
        lambda name, *args, **kwargs: app.queue.enqueue(getattr(app, name), *args, **kwargs),
        result,
    )


def _huey() -> Host:
    from tasks import huey as app  # noqa: PLC0415 - needs the broker's URL

    return Host(
        ["huey_consumer", "tasks.huey.huey", "--workers=2", "--worker-type=process"],
        "tasks.huey.",
        lambda name, *args, **kwargs: getattr(app, name)(*args, **kwargs),
        lambda sent: sent.get(blocking=True, timeout=RESULT_SECONDS),
    )


def _futures() -> Host:
    from tasks import executors as app  # noqa: PLC0415 - numpy

    pool = ProcessPoolExecutor(2, initializer=start_process)
    return Host(
        [],
        "tasks.executors.",
        lambda name, *args, **kwargs: pool.submit(getattr(app, name), *args, **kwargs),
        lambda sent: sent.result(RESULT_SECONDS),
    )


HOSTS = {"dramatiq": _dramatiq, "rq": _rq, "huey": _huey, "futures": _futures}


class _Here:
    """The demo as the parent of an executor, with what `node.Process` has."""

    def check(self) -> None:
        """Do nothing: it runs."""

    def wait_for(self, is_done: Callable[[], bool]) -> None:
        """Wait until something is done in its children."""
        end = time.monotonic() + RESULT_SECONDS
        while not is_done():
            if time.monotonic() > end:
                raise DemoError(f"the executor's numbers are not whole after {RESULT_SECONDS} s")
            time.sleep(0.05)


@contextmanager
def _parent() -> Iterator[_Here]:
    endpoint = start_node()
    if endpoint is None:
        raise DemoError("BUFPOOL_METRICS_PORT is not set")
    with closing(endpoint):
        yield _Here()


def run(name: str) -> bool:
    """Run the work on a job system; return whether every result and every number was right."""
    if name not in HOSTS:
        raise DemoError(f"HOST={name}: there is {', '.join(HOSTS)}; without it, Celery")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bufpool-demo-")))
        url, _ = stack.enter_context(node.broker(folder))
        port = _free_port()
        os.environ |= {
            "BUFPOOL_BROKER_URL": url.replace("redis+socket://", "unix://"),
            "BUFPOOL_PUBLIC_KEY": bp.generate_key(folder / "key"),
            "BUFPOOL_PRIVATE_KEYS": json.dumps([str(folder / "key")]),
            "BUFPOOL_WARM": json.dumps(_WARM),
            "BUFPOOL_METRICS_PORT": str(port),
        }
        worker: node.Process | _Here
        if name == "futures":
            worker, host = stack.enter_context(_parent()), _futures()
        else:
            host = HOSTS[name]()
            program, *arguments = host.command
            argv = [sys.executable, str(Path(sys.executable).parent / program), *arguments]
            root = str(Path(__file__).parents[2])
            worker = stack.enter_context(
                node.process(name, argv, log=folder / "worker.log", PYTHONPATH=root)
            )
        wrong, seconds = _work(host, folder)
        worker.check()
        gets, puts, hits = _numbers(port, worker)
    print(  # noqa: T201 - a demo's output
        f"{name}: {2 * JOBS} jobs in {seconds:.1f} s, {wrong} wrong; {gets:.0f} buffers lent, "
        f"{puts:.0f} given back, {100 * hits / gets:.2f} % of them warm; metrics were at "
        f"http://127.0.0.1:{port}/"
    )
    return not wrong and gets == puts == 3 * JOBS


def _work(host: Host, folder: Path) -> tuple[int, float]:
    """Send the work; return how many results were wrong, and the seconds that it took."""
    from tasks.images import PIXELS, SCRYPT  # noqa: PLC0415 - numpy

    source = folder / "image"
    source.write_bytes(bytes(range(256)) * (PIXELS // 256))
    mean = FACTOR * 255 / 2
    password, salt = secrets.token_bytes(16), secrets.token_bytes(16)
    expected = hashlib.scrypt(password, salt=salt, **SCRYPT).hex()
    began = time.perf_counter()
    key = os.environ["BUFPOOL_PUBLIC_KEY"]  # set after this process read its settings
    sent: list[tuple[Any, object]] = []
    for number in range(JOBS):
        token = bp.seal(
            password, task=f"{host.prefix}login", argument="password", expires=300, public_key=key
        )
        sent.append((host.send("scale", str(source), FACTOR), mean))
        user = f"user-{number}"
        sent.append((host.send("login", user, salt.hex(), expected, password=token), user))
    wrong = sum(host.result(job) != right for job, right in sent)
    return wrong, time.perf_counter() - began


def _numbers(port: int, worker: node.Process | _Here) -> tuple[float, float, float]:
    """Return the node's gets, puts and hits, when the last buffer was given back."""
    found: dict[str, float] = {}

    def is_complete() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                text = answer.read().decode()
        except OSError:
            return False
        found.clear()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0) + sample.value
        return found["bufpool_puts_total"] >= 3 * JOBS

    worker.wait_for(is_complete)
    gets, puts, hits = (found[f"bufpool_{name}_total"] for name in ("gets", "puts", "hits"))
    return gets, puts, hits


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
