"""The reckoning: tasks sent against tasks ended, counters against the truth of the tasks."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import truth
from load import Producer
from observer import Observer

from bufpool_workers.memory import BufferPool
from bufpool_workers.metrics import make_registry
from bufpool_workers.settings import KINDS

# of the class that soft limits and revocations strike in, whose tasks may not come to note an end
_CUT_SHORT = 16 * 1024
# the key of sealed arguments is read through the smallest secure class
_KEYS = ("secure", 2048)
_HARSH = ("child killed", "main killed", "tmpfs full", "task revoked")


class Check(NamedTuple):
    """One promise and whether it was kept."""

    promise: str
    kept: bool
    found: str


def judge(
    folder: Path,
    directories: list[Path],
    *,
    producer: Producer,
    observer: Observer,
    faults: Counter[str],
) -> tuple[dict[str, int], list[Check]]:
    """Compare everything once all nodes have ended; gives numbers for the table, and the checks."""
    ledger = producer._ledger
    ledger.read()
    lost = producer.missing()
    counters = read_counters(directories)
    wrong, under_way = compare(truth.read(folder / "truth"), counters)
    numbers = {
        "sent": len(producer.sent),
        "done": sum(word == "done" for word in ledger.ended.values()),
        "failed by design": sum(word == "failed" for word in ledger.ended.values()),
        "soft limits": sum(word == "limited" for word in ledger.ended.values()),
        "revoked by design": len(producer.revoked - set(ledger.ended)),
        "run again after a fault": ledger.redelivered,
        "buffers lent": int(sum(n for (name, _, _), n in counters.items() if name == "gets")),
        "under way at a kill or limit": under_way,
        "processes without counters": truth.count_uncounted(folder / "truth"),
        "scrapes": observer.scrapes,
        "lost": len(lost),
    }
    harsh = sum(faults[name] for name in _HARSH) + numbers["soft limits"]
    checks = [
        Check("every task that was sent has ended", not lost, f"{len(lost)} lost"),
        Check(
            "no buffer was lent twice",
            not ledger.words["shared"],
            f"{ledger.words['shared']} found with another's bytes",
        ),
        Check("the counters are those of the tasks", not wrong, "; ".join(wrong) or "none wrong"),
        Check(
            "what is not certain was under way when something was killed or limited",
            under_way <= harsh,
            f"{under_way} of {numbers['buffers lent']} buffers, {harsh} kills and limits",
        ),
        Check(
            "no counter ever stepped back",
            not observer.steps_back,
            "; ".join(observer.steps_back[:3]) or f"none in {observer.scrapes} scrapes",
        ),
        Check(
            "no file was damaged",
            observer.skipped_files == 0,
            f"{observer.skipped_files:g} skipped",
        ),
        Check(
            "files of the dead are merged",
            all(len(list(path.glob("*.db"))) == 1 for path in set(directories)),
            f"{sum(len(list(path.glob('*.db'))) for path in set(directories))} left",
        ),
    ]
    return numbers, checks


def read_counters(directories: list[Path]) -> dict[tuple[str, str, str], float]:
    """Add up the counters of all directories, by field, pool and size label."""
    sums: Counter[tuple[str, str, str]] = Counter()
    for directory in set(directories):
        for metric in make_registry(directory).collect():
            if metric.type == "counter":
                for sample in metric.samples:
                    field = metric.name.removeprefix("bufpool_")
                    sums[field, sample.labels["pool"], sample.labels["size"]] += sample.value
    return dict(sums)


def compare(
    noted: dict[tuple[str, int, str], truth.Bounds],
    counters: dict[tuple[str, str, str], float],
) -> tuple[list[str], int]:
    """Say which counters are outside of what the tasks know, and how wide that is for all gets."""
    wrong, under_way = [], 0
    labels = dict(zip(truth.SIZES, _labels(), strict=True))
    for kind in KINDS:
        for size in truth.SIZES:
            if (kind, size) == _KEYS:
                continue
            taken = noted[kind, size, "gets"]
            under_way += taken.begun - taken.done
            for event in truth.EVENTS:
                low, high = noted[kind, size, event].done, noted[kind, size, event].begun
                if event == "puts":  # one that was interrupted as it was taken may be back
                    high += taken.begun - taken.done
                if size == _CUT_SHORT and event != "gets":
                    high = taken.begun
                found = counters.get((event, kind, labels[size]), 0.0)
                if not low <= found <= high:
                    wrong.append(f"{event} of {kind} {labels[size]}: {found:g}, {low} to {high}")
            hits, misses = (counters.get((n, kind, labels[size]), 0.0) for n in ("hits", "misses"))
            gets = counters.get(("gets", kind, labels[size]), 0.0)
            if hits + misses != gets:
                wrong.append(f"{kind} {labels[size]}: {hits:g} hits, {misses:g} misses, {gets:g}")
    return wrong, under_way


def _labels() -> tuple[str, ...]:
    pool = BufferPool("regular", size_classes=truth.SIZES, max_bytes=1, max_buffer_bytes=1)
    return pool.labels[:-1]
