"""The soak's checks on a small run that is made up: right, and wrong in one way at a time."""

import json
import os
import socketserver
from collections import Counter
from contextlib import closing
from threading import Thread
from types import SimpleNamespace

import pytest

from bufpool_workers.counters.directory import Directory
from bufpool_workers.counters.format import Number
from bufpool_workers.counters.mergedfile import MergedFile
from bufpool_workers.counters.names import merged_name
from tests.soak import drain
from tests.soak import observer as observers
from tests.soak.checks import Rest, judge
from tests.soak.drain import Drained
from tests.soak.expected import ExpectedCounts
from tests.soak.task_log import DONE, FAILED, LIMITED, STARTED, TaskLog, note
from tests.soak.worker_node import Look, Node
from tests.support.waiting import wait_until

VANISHED = "what vanished in the broker's transport did so at a kill"
LOST = "the workers lost no task"
ENDED = "tasks ended as they are made to"
AGAIN = "what ran again may have been struck by a fault"
CONFIRMED = "the broker confirmed what was sent, but for when it was stopped or killed"
COUNTED = "the counters are those of the tasks"
LAST = "the last scrape says what the files say"
IN_USE = "what is in use at rest is what tasks keep"
UNSURE = "what is not certain was under way when something was killed or limited"
ANSWERED = "most scrapes were answered"
STEPPED = "no counter ever stepped back"
DAMAGED = "no file was damaged"
LENT_AGAIN = "what was given back is lent again"
LEFT = "files of the dead are merged, and none is left beside"
ENDS = "nodes end well and leave no process"
RAISED = "no task and no handler raised but by design"
SENT = {"a": "digest", "b": "fail", "c": "limited", "d": "secret"}


class Scenario:
    """Four tasks on two nodes with one directory, and three buffers that one process used."""

    def __init__(self, folder):
        self.folder = folder
        self.directory = folder / "metrics"
        for path in (self.directory, folder / "truth"):
            path.mkdir()
        self.expected = ExpectedCounts(folder / "truth")
        self.expected.is_counted = True
        self.row = self.expected.row("regular", 4096)
        for _ in range(3):
            self.row.begin("gets", "puts")
            self.row.done("gets", "puts")
        self.write_counters(gets=3, hits=3, puts=3)
        for task_id, word in zip(SENT, (DONE, FAILED, LIMITED, DONE), strict=True):
            note(folder / "task_log", STARTED, task_id)
            note(folder / "task_log", word, task_id)
        (folder / "north.log").write_text(
            "Task tests.soak.soak_tasks.fail[b] raised unexpected: LookupError"
        )
        self.producer = SimpleNamespace(
            task_log=TaskLog(folder / "task_log"),
            sent={task_id: (name, None) for task_id, name in SENT.items()},
            unconfirmed=0,
            revoked=set(),
        )
        self.observer = SimpleNamespace(scrapes=9, failed=1, steps_back=[], skipped_files=0.0)
        self.worker = SimpleNamespace(members=list)
        self.faults = Counter()
        self.drained = Drained([], [])
        self.rest = Rest({("", "regular", "4kb"): 3.0}, [])
        self.ends = [0, 0]

    def write_counters(self, **counts):
        labels = {"pool": "regular", "size": "4kb"}
        numbers = {
            json.dumps([f"bufpool_{name}", f"bufpool_{name}_total", labels, ""]).encode(): [
                Number(float(count))
            ]
            for name, count in counts.items()
        }
        with Directory(self.directory) as directory:
            MergedFile.of("counter", numbers, ()).replace(directory, merged_name("counter"))

    def broken(self):
        node = SimpleNamespace(metrics=self.directory, gave_up=0, worker=self.worker)
        _, checks = judge(
            self.folder,
            [node, node],
            producer=self.producer,
            observer=self.observer,
            faults=self.faults,
            drained=self.drained,
            rest=self.rest,
            ends=self.ends,
        )
        return {check.promise for check in checks if not check.kept}


@pytest.fixture
def made_up(tmp_path):
    return Scenario(tmp_path)


def test_a_run_without_a_fault_keeps_every_promise(made_up):
    assert made_up.broken() == set()


@pytest.mark.parametrize(
    ("vanished", "faults", "broken"),
    [
        (["a"], {}, {VANISHED}),
        (["a"], {"child killed": 9, "Redis paused": 9, "main stopped": 9}, {VANISHED}),
        (["a"], {"main killed": 1}, set()),
        (["a"], {"node restarted": 1}, set()),
        (["a", "d"], {"main killed": 1}, {VANISHED}),
        (["a", "d"], {"Redis killed": 1}, set()),
        (["a", "b", "d"], {"Redis killed": 1}, {VANISHED}),
    ],
)
def test_each_vanished_message_needs_a_kill_in_its_window(made_up, vanished, faults, broken):
    made_up.drained = Drained(vanished, [])
    made_up.faults = Counter(faults)
    assert made_up.broken() == broken


def lose(made_up):
    made_up.faults["main killed"] = 9
    made_up.drained = Drained([], ["a"])


def end_otherwise(made_up):
    note(made_up.folder / "task_log", FAILED, "a")


def do_nothing(made_up):
    made_up.producer.sent = {}
    made_up.producer.task_log = TaskLog(made_up.folder / "none")


def run_again(made_up):
    note(made_up.folder / "task_log", STARTED, "a")


def not_confirm(made_up):
    made_up.producer.unconfirmed = 1


def count_too_little(made_up):
    made_up.write_counters(gets=3, hits=3, puts=2)


def count_misses_wrong(made_up):
    made_up.write_counters(gets=3, hits=2, puts=3)


def miss_often(made_up):
    for _ in range(97):
        made_up.row.begin("gets", "puts")
        made_up.row.done("gets", "puts")
    made_up.write_counters(gets=100, misses=14, hits=86, puts=100)
    made_up.rest = Rest({("", "regular", "4kb"): 100.0}, [])


def scrape_nothing_last(made_up):
    made_up.rest = Rest({}, [])


def keep_in_use(made_up):
    made_up.rest = Rest(made_up.rest.gets, ["regular 4kb: 1, tasks keep 0"])


def leave_unsure(made_up):
    made_up.row.begin("gets")


def limits_elsewhere(made_up):
    leave_unsure(made_up)
    note(made_up.folder / "task_log", LIMITED, "c")


def scrape_never(made_up):
    made_up.observer.scrapes = made_up.observer.failed = 0


def scrape_seldom(made_up):
    made_up.observer.failed = 9


def step_back(made_up):
    made_up.observer.steps_back = ["gets: 3 to 2"]


def damage(made_up):
    made_up.observer.skipped_files = 1.0


def leave_a_file(made_up):
    (made_up.directory / "counter_1.db").touch()


def leave_a_process(made_up):
    made_up.worker.members = lambda: [1]


def end_badly(made_up):
    made_up.ends = [0, -11]


def raise_in_a_task(made_up):
    text = "Task tests.soak.soak_tasks.digest[a] raised unexpected: BufferError('2 views')\n"
    (made_up.folder / "south.log").write_text(text)


def raise_in_a_handler(made_up):
    text = "Signal handler <function _end at 0x7f> raised: ValueError('closed')\n"
    (made_up.folder / "south.log").write_text(text)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lose, {LOST}),
        (end_otherwise, {ENDED}),
        (do_nothing, {ENDED}),
        (run_again, {AGAIN}),
        (not_confirm, {CONFIRMED}),
        (count_too_little, {COUNTED}),
        (count_misses_wrong, {COUNTED}),
        (miss_often, {LENT_AGAIN}),
        (scrape_nothing_last, {LAST}),
        (keep_in_use, {IN_USE}),
        (leave_unsure, {UNSURE}),
        (limits_elsewhere, {UNSURE}),
        (scrape_never, {ANSWERED, STEPPED, DAMAGED}),
        (scrape_seldom, {ANSWERED}),
        (step_back, {STEPPED}),
        (damage, {DAMAGED}),
        (leave_a_file, {LEFT}),
        (leave_a_process, {ENDS}),
        (end_badly, {ENDS}),
        (raise_in_a_task, {RAISED}),
        (raise_in_a_handler, {RAISED}),
    ],
)
def test_each_fault_breaks_its_promise_and_no_other(made_up, change, broken):
    change(made_up)
    assert made_up.broken() == broken


def drained_at_once(folder, *, sent, monkeypatch, comes_back=False):
    monkeypatch.setattr(drain, "_ON_THE_WAY_SECONDS", 0)
    task_log = TaskLog(folder / "task_log")
    again = []

    def missing():
        task_log.read()
        return [task_id for task_id in sent if task_id not in task_log.ended]

    def send(name, call, *, task_id):
        again.append(task_id)
        if comes_back:
            note(folder / "task_log", DONE, task_id)

    producer = SimpleNamespace(
        task_log=task_log, sent=dict.fromkeys(sent, ("digest", None)), missing=missing, send=send
    )
    return drain.drain(producer, waiting=lambda: 0, supervise=lambda: None), again


def test_a_task_that_never_began_and_comes_back_has_vanished(tmp_path, monkeypatch):
    note(tmp_path / "task_log", DONE, "a")
    found = drained_at_once(tmp_path, sent="ab", monkeypatch=monkeypatch, comes_back=True)
    assert found == (Drained(["b"], []), ["b"])


def test_a_task_that_never_comes_back_is_lost_after_a_few_rounds(tmp_path, monkeypatch):
    found = drained_at_once(tmp_path, sent="a", monkeypatch=monkeypatch)
    assert found == (Drained(["a"], ["a"]), ["a"] * drain._ROUNDS)


def test_a_task_that_began_and_never_ended_is_lost_and_not_sent_again(tmp_path, monkeypatch):
    note(tmp_path / "task_log", STARTED, "a")
    found = drained_at_once(tmp_path, sent="a", monkeypatch=monkeypatch, comes_back=True)
    assert found == (Drained([], ["a"]), [])


def observe(monkeypatch, *looks):
    monkeypatch.setattr(observers, "_PACE_SECONDS", 0)
    left = list(looks)

    def look():
        return left.pop(0)() if len(left) > 1 else left[0]()

    node = SimpleNamespace(name="north", metrics="directory", look=look)
    return observers.Observer([node], task_log=SimpleNamespace(ended={}), began=0, before=0)


def look_with(**totals):
    samples = {(f"{name}_total",): value for name, value in totals.items()}
    return lambda: Look(0, 0, 0, 0.1, samples | {observers.SKIPPED: 0.0})


def test_error_that_ends_the_observer_is_raised_at_close(monkeypatch):
    def fail():
        raise KeyError("bufpool_gets_total")

    observer = observe(monkeypatch, fail)
    with pytest.raises(KeyError, match="bufpool_gets_total"):
        observer.close()


@pytest.mark.parametrize("then", [{"gets": 1.0}, {}])
def test_a_counter_that_falls_or_is_gone_has_stepped_back(monkeypatch, then):
    with closing(observe(monkeypatch, look_with(gets=2.0), look_with(**then))) as observer:
        wait_until(lambda: observer.scrapes >= 3, what="three scrapes")
    assert observer.steps_back


class CutShort(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(4096)
        self.request.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nbufpool")


def test_an_answer_that_is_cut_short_is_a_scrape_that_failed(tmp_path, monkeypatch):
    with socketserver.TCPServer(("127.0.0.1", 0), CutShort) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        node = object.__new__(Node)
        node._url = f"http://127.0.0.1:{server.server_address[1]}/metrics"
        node.metrics = tmp_path
        node.worker = SimpleNamespace(pid=os.getpid())
        with closing(observe(monkeypatch, node.look)) as observer:
            wait_until(lambda: observer.failed >= 2, what="two scrapes that failed")
        server.shutdown()
    assert observer.scrapes == 0
