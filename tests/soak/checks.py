"""What has to hold: tasks sent against tasks ended, counters against what the tasks did."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bufpool_workers.counters.history import NAME as HISTORY
from bufpool_workers.counters.names import LOCK, merged_name
from tests.soak import expected
from tests.soak.accounts import Compared, Counters, compare, compare_in_use, read_counters, scraped
from tests.soak.drain import Drained
from tests.soak.load import Producer
from tests.soak.observer import Observer
from tests.soak.task_log import DONE, FAILED, LIMITED, SHARED, TaskLog
from tests.soak.worker_node import CHILDREN, Node
from tests.support.scrape import Samples
from tests.support.waiting import wait_until

_MOST_UNACKNOWLEDGED = 2 * CHILDREN  # of one node: worker_prefetch_multiplier is 2
_MOST_COLD = 8
_ENDS = {"fail": {FAILED}, "limited": {LIMITED, DONE}}  # a stopping worker has no soft limits
_RAISED = re.compile(
    r"Task [\w.]+\.(\w+)\[[^]]*\] raised unexpected: (\w+)|Signal handler (.+) raised: (\w+)"
)
_BY_DESIGN = {("fail", "LookupError"), ("limited", "SoftTimeLimitExceeded")}


class Check(NamedTuple):
    """One promise and whether it was kept."""

    promise: str
    kept: bool
    found: str


class Rest(NamedTuple):
    """What nodes say when nothing runs: their gets, and what is in use that is not kept."""

    gets: Counters
    wrong: list[str]


def look_at_rest(nodes: list[Node], truths: Path) -> Rest:
    """Scrape once all tasks have ended; a child may still be about to be replaced."""
    gets: Counters = {}
    wrong: list[str] = []

    def is_right() -> bool:
        nonlocal gets, wrong
        for node in nodes:
            node.wait_for_children()
        samples = {node.metrics: node.look().samples for node in nodes}
        gets = _sum(samples, "bufpool_gets_total")
        pids = [child.pid for node in nodes for child in node.children()]
        wrong = compare_in_use(truths, pids, _sum(samples, "bufpool_buffers_in_use"))
        return not wrong

    with suppress(TimeoutError):  # the checks say what is wrong
        wait_until(is_right, what="what the tasks keep, in a scrape")
    return Rest(gets, wrong)


def _sum(samples: dict[Path, Samples], name: str) -> Counters:
    sums: Counter[tuple[str, str, str]] = Counter()
    for each in samples.values():
        sums.update(scraped(each, name))
    return dict(sums)


def judge(  # noqa: PLR0913 - all that there is to judge, by keyword
    folder: Path,
    nodes: list[Node],
    *,
    producer: Producer,
    observer: Observer,
    faults: Counter[str],
    drained: Drained,
    rest: Rest,
    ends: list[int],
) -> tuple[dict[str, int], list[Check]]:
    """Compare everything once all nodes have ended; gives numbers for the table, and the checks."""
    task_log = producer.task_log
    task_log.read()
    directories = {node.metrics for node in nodes}
    counters = read_counters(directories)
    compared = compare(expected.read(folder / "truth"), counters)
    ended = Counter(task_log.ended.values())
    gave_up = sum(node.gave_up for node in nodes)
    numbers = {
        "tasks sent": len(producer.sent),
        "sent while the broker was away, and not confirmed": producer.unconfirmed,
        "done": ended[DONE],
        "failed by design": ended[FAILED],
        "ended by a soft limit": ended[LIMITED],
        "revoked": len(producer.revoked - set(task_log.ended)),
        "lost by the workers": len(drained.lost),
        "lost in the broker's transport at a kill, sent again": len(drained.vanished),
        "run again after a fault": task_log.redelivered,
        "buffers lent": int(sum(n for (name, _, _), n in counters.items() if name == "gets")),
        "buffers under way at a kill or a limit, which may count or not": compared.unsure
        + compared.unsure_cut_short,
        "processes that ended before they had a counter file": expected.count_uncounted(
            folder / "truth"
        ),
        "scrapes": observer.scrapes,
        "scrapes of a node that was down": observer.failed,
        "main processes that ended by themselves": gave_up,
    }
    deaths = faults["main killed"] + gave_up
    checks = [
        *_of_tasks(producer, task_log, drained, faults, deaths=deaths, nodes=len(nodes)),
        *_of_counters(rest, counters, compared.wrong),
        _of_misses(compared, len(list((folder / "truth").iterdir()))),
        _of_what_is_unsure(compared, faults, deaths=deaths, limits=ended[LIMITED]),
        *_of_scrapes(observer),
        *_of_what_is_left(folder, nodes, directories, ends),
    ]
    return numbers, checks


def _of_tasks(  # noqa: PLR0913 - as above
    producer: Producer,
    task_log: TaskLog,
    drained: Drained,
    faults: Counter[str],
    *,
    deaths: int,
    nodes: int,
) -> Iterator[Check]:
    # each main process has at most one message between the broker's two lists
    most = deaths + faults["node restarted"] + nodes * faults["Redis killed"]
    yield Check(
        "the workers lost no task",
        not drained.lost,
        _count(drained.lost, "began and did not end, or never began", producer),
    )
    yield Check(
        "what vanished in the broker's transport did so at a kill",
        len(drained.vanished) <= most,
        _count(drained.vanished, f"sent again, at most {most} by these kills", producer),
    )
    others = [
        f"{name}: {task_log.ended[task_id]}"
        for task_id, (name, _) in producer.sent.items()
        if task_log.ended.get(task_id, DONE) not in _ENDS.get(name, {DONE})
    ]
    done = sum(word == DONE for word in task_log.ended.values())
    yield Check(
        "tasks ended as they are made to",
        done > 0 and not others,
        f"{done} done; {'; '.join(others[:3]) or 'none otherwise'}",
    )
    again = (faults.total() + deaths) * (nodes * _MOST_UNACKNOWLEDGED + 2)
    yield Check(
        "what ran again may have been struck by a fault",
        task_log.redelivered <= again,
        f"{task_log.redelivered} runs, at most {again} by these faults",
    )
    yield Check(
        "the broker confirmed what was sent, but for when it was stopped or killed",
        not producer.unconfirmed or faults["Redis killed"] + faults["Redis paused"] > 0,
        f"{producer.unconfirmed} not confirmed",
    )
    yield Check(
        "no buffer was lent twice",
        not task_log.words[SHARED],
        f"{task_log.words[SHARED]} found with another's bytes",
    )


def _count(task_ids: list[str], what: str, producer: Producer) -> str:
    names = Counter(producer.sent[task_id][0] for task_id in task_ids)
    return f"{len(task_ids)} {what}" + "".join(f"; {n} {name}" for name, n in names.items())


def _of_counters(rest: Rest, counters: Counters, wrong: list[str]) -> Iterator[Check]:
    lent = {key[1:]: n for key, n in counters.items() if key[0] == "gets"}
    last = {key[1:]: n for key, n in rest.gets.items()}
    differ = [f"{key}: {last.get(key)}, {n:g}" for key, n in lent.items() if last.get(key) != n]
    yield Check("the counters are those of the tasks", not wrong, "; ".join(wrong) or "none wrong")
    yield Check(
        "the last scrape says what the files say",
        any(lent.values()) and not differ,
        "; ".join(differ[:3]) or f"all {len(lent)} counts of buffers lent",
    )
    yield Check(
        "what is in use at rest is what tasks keep",
        not rest.wrong,
        "; ".join(rest.wrong) or "in all classes",
    )


def _of_misses(compared: Compared, processes: int) -> Check:
    # what a process takes beyond its warm level, and again once that was trimmed
    most = _MOST_COLD * processes + compared.lent / 20
    return Check(
        "what was given back is lent again",
        compared.misses <= most,
        f"{compared.misses:g} misses of {compared.lent:g}, {processes} processes",
    )


def _of_what_is_unsure(
    compared: Compared, faults: Counter[str], *, deaths: int, limits: int
) -> Check:
    kills = sum(faults[name] for name in ("child killed", "tmpfs full", "task revoked"))
    kills += CHILDREN * deaths
    return Check(
        "what is not certain was under way when something was killed or limited",
        compared.unsure <= kills and compared.unsure_cut_short <= kills + limits,
        f"{compared.unsure} buffers, {kills} kills; "
        f"{compared.unsure_cut_short} of the class that {limits} limits struck in",
    )


def _of_scrapes(observer: Observer) -> Iterator[Check]:
    scrapes, failed = observer.scrapes, observer.failed
    yield Check(
        "most scrapes were answered", scrapes > failed, f"{scrapes} were, {failed} were not"
    )
    yield Check(
        "no counter ever stepped back",
        scrapes > 0 and not observer.steps_back,
        "; ".join(observer.steps_back[:3]) or f"none in {scrapes} scrapes",
    )
    yield Check(
        "no file was damaged",
        scrapes > 0 and observer.skipped_files == 0,
        f"{observer.skipped_files:g} skipped",
    )


def _of_what_is_left(
    folder: Path, nodes: list[Node], directories: set[Path], ends: list[int]
) -> Iterator[Check]:
    own = {LOCK, HISTORY, merged_name("counter")}
    left = [path.name for where in directories for path in where.iterdir() if path.name not in own]
    yield Check(
        "files of the dead are merged, and none is left beside",
        not left and all((where / merged_name("counter")).exists() for where in directories),
        f"{len(left)} left {' '.join(left[:3])}".rstrip(),
    )
    processes = [pid for node in nodes for pid in node.worker.members()]
    yield Check(
        "nodes end well and leave no process",
        not any(ends) and not processes,
        f"exit status {', '.join(map(str, ends))}; {len(processes)} processes left",
    )
    raised = read_raised(folder)
    yield Check(
        "no task and no handler raised but by design",
        not raised,
        "; ".join(f"{n} of {what}" for what, n in raised.most_common(3)) or "none",
    )


def read_raised(folder: Path) -> Counter[str]:
    """Count what the nodes' logs say to have been raised that nobody meant to be."""
    found: Counter[str] = Counter()
    for log in folder.glob("*.log"):
        for task, error, handler, its in _RAISED.findall(log.read_text(errors="replace")):
            if (task, error) not in _BY_DESIGN and its != "SoftTimeLimitExceeded":
                found[f"{error or its} in {task or handler}"] += 1
    return found
