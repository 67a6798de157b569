"""What a worker logs: a line for each process that is warm, one at its end, none for a task."""

import json
import signal

import psutil

from bufpool_workers import KiB


def lines_of(worker):
    """Parse the log; what a process wrote besides has no JSON and is no line of ours."""
    found = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    return [line for line in found if line["bufpool"]]


def test_json_lines_tell_of_warm_up_and_totals_and_never_of_a_task(start_worker):
    worker = start_worker(
        "logging_app:app",
        arguments=["--concurrency=2"],
        settings={"bufpool_warm": {"regular": {"4KiB": 3}, "secure": {"2KiB": 2}, "random": {}}},
    )
    worker.wait_for_log('"event": "warmed"', count=2)
    children = {child.pid for child in psutil.Process(worker.pid).children()}
    warm = lines_of(worker)
    assert {line["pid"] for line in warm} == children
    for line in warm:
        told = line["bufpool"]
        assert (told["event"], told["buffers"], told["complete"]) == ("warmed", 5, True)
        assert told["bytes"] == 3 * 4 * KiB + 2 * 2 * KiB
        assert told["seconds"] > 0
        assert f"{told['seconds']:.4f} s" in line["message"]
        assert told["secure_level"] in {"plain", "mlock", "memfd"}
    for _ in range(3):
        worker.run("pool_tasks.borrow", 4096, 1)
    assert lines_of(worker) == warm
    assert worker.stop(signal.SIGTERM) == 0
    (end,) = lines_of(worker)[len(warm) :]
    assert end["pid"] == worker.pid
    assert (end["bufpool"]["event"], end["bufpool"]["gets"]) == ("ended", 3)
    assert end["bufpool"]["hit_rate"] == 100
