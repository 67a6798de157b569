"""Where escaped buffers were acquired reaches the page of the worker's main process."""

import inspect
import json
import re
import urllib.request
from pathlib import Path

import bufpool_workers as bp
from tests.celery import escaping_tasks


def ask(worker, path):
    with urllib.request.urlopen(
        f"http://127.0.0.1:{worker.wait_for_port()}/{path}", timeout=30
    ) as response:
        return response.read().decode()


def start(start_worker, **settings):
    return start_worker(
        "escaping_app:app",
        arguments=["--concurrency=1", "--max-tasks-per-child=2"],
        settings={"bufpool_metrics_port": 0, **settings},
    )


def places_told_by(worker):
    told = json.loads(ask(worker, "status.json"))["escape_places"]
    return {its["place"]: (its["pool"], its["escapes"]) for its in told}


def test_places_outlive_the_processes_that_saw_them(start_worker):
    worker = start(start_worker, bufpool_debug=True)
    tasks = ["keep_slice", "hold_at_end", "keep_slice"]  # of which the first process does two
    assert len({worker.run(f"escaping_tasks.{task}") for task in tasks}) == 2
    places = places_told_by(worker)
    file = Path(escaping_tasks.__file__)
    lines = file.read_text().splitlines()
    by_line = {
        lines[int(place.rpartition(":")[2]) - 1].strip(): found
        for place, found in places.items()
        if place.startswith(f"{file}:")
    }
    assert by_line == {
        "with bp.buffer(4096) as buf:": ("regular", 2),
        "held = bp.secure_buffer(100)": ("secure", 1),
    }
    page = ask(worker, "")
    assert all(place in page for place in places)
    assert re.search(r"bufpool_escapes_at_total\{.*escaping_tasks", ask(worker, "metrics"))


def test_a_decorated_task_is_the_place_of_its_buffers(start_worker, tmp_path):
    public_key = bp.generate_key(tmp_path / "key")
    keys = {"bufpool_private_keys": [str(tmp_path / "key")]}
    worker = start(start_worker, bufpool_debug=True, **keys)
    task = "escaping_tasks.keep_sealed"
    token = bp.seal(b"secret", task=task, argument="secret", public_key=public_key)
    worker.run("escaping_tasks.keep_decorated")
    worker.run(task, token)
    places = {}
    for name in ("keep_decorated", "keep_sealed"):
        code = inspect.unwrap(getattr(escaping_tasks, name).run).__code__
        places[name] = f"{code.co_filename}:{code.co_firstlineno}"
    assert places_told_by(worker) == {
        places["keep_decorated"]: ("regular", 1),
        places["keep_sealed"]: ("secure", 1),
    }


def test_without_debugging_there_are_no_places_and_the_page_says_how_to_get_them(start_worker):
    worker = start(start_worker)
    worker.run("escaping_tasks.keep_slice")
    report = json.loads(ask(worker, "status.json"))
    assert (report["total"]["escapes"], report["escape_places"]) == (1, [])
    assert "bufpool_debug" in ask(worker, "")
