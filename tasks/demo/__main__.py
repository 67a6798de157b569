"""The demo: broker, worker, work, report."""

import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from celery import Signature
from celery.exceptions import TimeoutError as NoResultYet
from kombu.utils.url import maybe_sanitize_url
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from bufpool_workers import MiB, generate_key
from tasks.demo import DemoError, node

CHILDREN = 2
RESULT_SECONDS = 60
STEADY_HIT_RATE = 95.0
_WARM_UP = re.compile(r"/ForkPoolWorker-(\d+)\] bufpool: .* warm in ([\d.]+) s")

console = Console(soft_wrap=True)  # lines stay whole where they are piped or logged


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar in a terminal; elsewhere one line at the end."""
    if not console.is_terminal:
        began = time.perf_counter()
        yield lambda: None
        console.print(f"{name}: {total} tasks in {time.perf_counter() - began:.1f} s")
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"{name:18}", total=total)
        yield lambda: progress.advance(bar)


def _results(tasks: Iterable[Signature], running: node.Node) -> Iterator[Any]:
    """Send tasks; gives the result of each, or the exception in its place, in their order."""
    sent = []
    try:
        for task in tasks:
            sent.append(task.apply_async(queue=running.queue))  # noqa: PERF401 - see below
        for pending in sent:
            yield _result(pending, running)
            pending.forget()
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # of Celery's, which may hold one more
        raise
    finally:
        # the broker may end before these are collected, and then each would look for it a while
        for pending in sent:
            pending.backend = None


def _result(pending: Any, running: node.Node) -> Any:
    for _ in range(RESULT_SECONDS):
        try:
            return pending.get(timeout=1, propagate=False)
        except NoResultYet:
            running.check()
        except RuntimeError as error:  # what Celery makes of a connection it gave up on
            raise node.BrokerError(str(error)) from error
    raise DemoError(f"task {pending.id}: no result in {RESULT_SECONDS} s")


def _run(name: str, jobs: Iterable[Any], running: node.Node) -> tuple[int, float, int]:
    """Send one kind of work and check every result; gives tasks, seconds, wrong ones."""
    jobs = list(jobs)
    wrong = 0
    with _progress(name, len(jobs)) as advance:
        began = time.perf_counter()
        results = _results([job.task for job in jobs], running)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, BaseException):
                console.print(f"{name}: {result!r}", markup=False)
            wrong += isinstance(result, BaseException) or not job.is_right(result)
            advance()
    return len(jobs), time.perf_counter() - began, wrong


def _numbers(folder: Path, running: node.Node) -> list[dict[str, Any]]:
    from tasks.demo.numbers import numbers  # noqa: PLC0415 - needs the broker's URL

    meeting = folder / "meeting"
    meeting.mkdir()
    children = list(_results([numbers.s(str(meeting), CHILDREN)] * CHILDREN, running))
    for child in children:
        if isinstance(child, BaseException):
            raise DemoError(f"a child's numbers are missing: {child!r}")
    return children


def _report_work(work: dict[str, tuple[int, float, int]]) -> None:
    table = Table(title="work")
    for column in ("kind", "tasks", "seconds", "tasks/s", "wrong"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for name, (tasks, seconds, wrong) in work.items():
        table.add_row(name, str(tasks), f"{seconds:.2f}", f"{tasks / seconds:.0f}", str(wrong))
    console.print(table)


def _report_pools(children: list[dict[str, Any]]) -> None:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for child in children:
        for label, values in child["sizes"].items():
            sums[label] = [a + b for a, b in zip(sums[label], values, strict=True)]
    table = Table(title=f"buffers, both of {CHILDREN} children, all kinds of pool")
    for column in ("size", "gets", "MiB allocated", "MiB reused"):
        table.add_column(column, justify="right")
    for label, (gets, allocated, reused) in sums.items():
        if gets or allocated:
            table.add_row(label, str(gets), f"{allocated / MiB:.2f}", f"{reused / MiB:.2f}")
    console.print(table)


def _demo(stack: ExitStack) -> bool:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bufpool-demo-")))
    url, processes = stack.enter_context(node.broker(folder))
    key, own_key = folder / "worker.key", folder / "own.key"
    os.environ |= {
        "BUFPOOL_BROKER_URL": url,
        "BUFPOOL_PUBLIC_KEY": generate_key(key),
        "BUFPOOL_PRIVATE_KEY": str(key),
        "BUFPOOL_RESULT_PUBLIC_KEY": generate_key(own_key),
        "BUFPOOL_RESULT_PRIVATE_KEY": str(own_key),
    }
    from tasks.demo import work  # noqa: PLC0415 - needs the broker's URL and the keys

    kinds = work.kinds(folder)
    made = work.FILES * work.FILE_BYTES + work.RASTERS * MiB
    console.print(f"broker {maybe_sanitize_url(url)}; {made // MiB} MiB of files in {folder}")
    with node.run(folder, processes, children=CHILDREN) as running:
        done = {name: _run(name, jobs(), running) for name, jobs in kinds.items()}
        children = _numbers(folder, running)
        warm_ups = _WARM_UP.findall(running.worker.log())

    _report_work(done)
    _report_pools(children)
    for child, seconds in sorted(warm_ups):
        console.print(
            f"child {child}: warm before its first task, in {float(seconds) * 1e3:.1f} ms"
        )
    gets, hits = (sum(child[key] for child in children) for key in ("gets", "hits"))
    held = sum(child["in_use"] + child["escapes"] + child["reclaims"] for child in children)
    rate = 100 * hits / gets
    wrong = sum(bad for _, _, bad in done.values())
    tasks = sum(count for count, _, _ in done.values())
    taken = sum(work.BUFFERS[name] * count for name, (count, _, _) in done.items())
    console.print(
        f"{tasks} tasks, {wrong} wrong; {gets} buffers, {rate:.2f} % from the pools "
        f"(at least {STEADY_HIT_RATE:g} % is asked); {held} lost, escaped or taken back"
    )
    if gets < taken:  # such as when a child died, and its numbers with it
        console.print(f"{taken - gets} more buffers were to be counted")
    return not (wrong or held) and gets >= taken and rate >= STEADY_HIT_RATE


def main() -> int:
    """Run the demo; 0 only if every result was right and the pools served 95 % of the buffers."""
    for ending in (signal.SIGTERM, signal.SIGHUP):  # leave by way of the clean-up
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        if sys.argv[1:]:
            from tasks.demo import hosts  # noqa: PLC0415 - other job systems

            return 0 if hosts.run(sys.argv[1]) else 1
        with ExitStack() as stack:
            return 0 if _demo(stack) else 1
    except KeyboardInterrupt:
        console.print("interrupted; processes ended, files removed")
        return 128 + signal.SIGINT
    except (DemoError, OSError) as error:
        console.print(f"the demo could not go on: {error}", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
