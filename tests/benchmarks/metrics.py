"""What counting costs on a buffer's way."""

import os
from collections.abc import Iterator

import prometheus_client
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.values import MultiProcessValue

from tests.benchmarks.directories import create, new_directory
from tests.benchmarks.prepared import Names, pools
from tests.benchmarks.report import Table
from tests.benchmarks.timing import Case, measure


def counter_file() -> Names:
    """A warm pool that counts in the file that is scraped."""
    names = pools()
    directory = new_directory()
    file = create(directory)
    names["pool"].bind_counters(file.buffer, file.offsets("regular"))
    return names


def counters(*, multiprocess: bool) -> Names:
    """prometheus_client's own counter, with its labels looked up before."""
    # chosen when prometheus_client is imported, which here was long ago
    if multiprocess:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(new_directory())
        prometheus_client.values.ValueClass = MultiProcessValue()
    counter = Counter("gets", "Buffers taken", ["pool", "size"], registry=CollectorRegistry())
    return {"counter": counter, "child": counter.labels("regular", "4kb")}


def lending() -> Table:
    table = Table("counting", "acquire(4096).release(), which counts six numbers")
    statement = "pool.acquire(4096).release()"
    ours, *rivals = measure(
        [
            Case("counted in the scraped file", statement, counter_file),
            Case("counted in private memory", statement, pools),
            Case("one Counter.inc()", "child.inc()", lambda: counters(multiprocess=False)),
            Case(
                "one Counter.inc(), multiprocess",
                "child.inc()",
                lambda: counters(multiprocess=True),
            ),
            Case(
                "one labels().inc(), multiprocess",
                'counter.labels("regular", "4kb").inc()',
                lambda: counters(multiprocess=True),
            ),
        ],
        rounds=51,
    )
    for rival in rivals:
        table.add(ours, rival, reach=1.03 if rival is rivals[0] else None)
    return table


def tables() -> Iterator[Table]:
    yield lending()
