"""Runs credential tasks in a real worker and counts the secrets that are left in its memory."""

import contextlib
import itertools
import os
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.leaks.scan import Found, Scanner
from tests.support.celery_worker import CeleryWorker
from tests.support.waiting import wait_until

ENDINGS = ("ok", "raising", "retried", "soft-limited", "hard-limited")
CORES = ("core, SIGABRT", "gcore", "gcore -a")
# of a system call: seccomp(2) answers ENOSYS to memfd_secret, 447, as an older kernel does
WITHOUT_MEMFD = (
    "import ctypes, os, struct, sys;"
    "rules = struct.pack('HBBIHBBIHBBIHBBI', 0x20,0,0,0, 0x15,0,1,447, 6,0,0,0x50026,"
    " 6,0,0,0x7fff0000);"
    "text = ctypes.create_string_buffer(rules, len(rules));"
    "program = ctypes.create_string_buffer(struct.pack('HP', 4, ctypes.addressof(text)));"
    "prctl = ctypes.CDLL(None, use_errno=True).prctl;"
    "bad = prctl(38, 1, 0, 0, 0) or prctl(22, 2, program, 0, 0);"
    "sys.exit('seccomp: %d' % ctypes.get_errno()) if bad else None;"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Arm:
    """One manner of handling a secret."""

    name: str
    task: str
    memfd: bool = True


ARMS = (
    Arm("secure buffer, memfd", "secure"),
    Arm("secure buffer, mlock", "secure", memfd=False),
    Arm("bytearray, wiped", "wiped"),
    Arm("plain argument", "plain"),
)


@dataclass
class Row:
    """Of how many secrets something was found, in the child and in the main process."""

    arm: Arm
    ending: str
    secrets: int
    child: int
    main: int
    forms: set[str]


def make_secrets(folder: Path, count: int) -> list[str]:
    """Make secrets of 28 characters, each in a file of its own."""
    made = [secrets.token_urlsafe(21) for _ in range(count)]
    for number, secret in enumerate(made):
        (folder / f"secret-{number}").write_text(secret)
    return made


@contextlib.contextmanager
def worker_of(arm: Arm, *, broker: str, folder: Path) -> Iterator[CeleryWorker]:
    """Start a worker with one child; cores go to its working directory, `folder`."""
    here = Path(__file__).parent
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        worker = CeleryWorker(
            "leak_app:app",
            broker=broker,
            folder=folder,
            log=folder / "worker.log",
            arguments=["--concurrency=1", "--pool=prefork"],
            prefix=() if arm.memfd else (sys.executable, "-c", WITHOUT_MEMFD),
            env={"PYTHONPATH": os.pathsep.join((str(here), str(here.parents[1])))},
        )
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    with worker:
        yield worker


def child_of(worker: CeleryWorker) -> int:
    """Wait for the pool's one child to serve; give its pid."""
    return int(worker.run("leak_app.ping"))


def run_endings(
    arm: Arm, *, broker: str, folder: Path, endings: Sequence[str] = ENDINGS, each: int = 4
) -> list[Row]:
    """Run `each` tasks of every ending and scan child and main for all their secrets."""
    made = make_secrets(folder, each * len(endings))
    by_ending = {ending: range(at * each, (at + 1) * each) for at, ending in enumerate(endings)}
    scanner = Scanner(made)
    rows = {}
    # those that kill the child come last, after a look at the child that served the others
    last = [ending for ending in endings if ending == "hard-limited"]
    with worker_of(arm, broker=broker, folder=folder) as worker:
        for group in ([e for e in endings if e not in last], last):
            for ending in group:
                for number in by_ending[ending]:
                    _run(worker, arm, folder, made[number], number, ending)
            child, main = scanner.process(child_of(worker)), scanner.process(worker.pid)
            for ending in endings:
                wanted = {made[number] for number in by_ending[ending]}
                row = Row(arm, ending, each, *_count(wanted, child, main))
                old = rows.get(ending)
                if old is None or (row.child, row.main) > (old.child, old.main):
                    rows[ending] = row
    return list(rows.values())


def _count(wanted: set[str], child: Found, main: Found) -> tuple[int, int, set[str]]:
    there = wanted & child.forms.keys(), wanted & main.forms.keys()
    forms = [found.forms.get(secret, set()) for found in (child, main) for secret in wanted]
    return len(there[0]), len(there[1]), set(itertools.chain(*forms))


def _run(  # noqa: PLR0913
    worker: CeleryWorker, arm: Arm, folder: Path, secret: str, number: int, ending: str
) -> None:
    given = secret if arm.task == "plain" else str(folder / f"secret-{number}")
    options = {
        "soft-limited": {"soft_time_limit": 1},
        "hard-limited": {"time_limit": 1},
    }.get(ending, {})
    sent = worker.client.send_task(f"leak_app.{arm.task}", [given, ending], **options)
    sent.get(timeout=30, propagate=False)
    expected = "SUCCESS" if ending in ("ok", "retried") else "FAILURE"
    assert sent.state == expected, (ending, sent.state, sent.result)


@contextlib.contextmanager
def holding(arm: Arm, *, broker: str, folder: Path) -> Iterator[tuple[CeleryWorker, int, Scanner]]:
    """Run a task that holds a secret; yield its worker, the pid that holds it, the scanner."""
    (secret,) = make_secrets(folder, 1)
    with worker_of(arm, broker=broker, folder=folder) as worker:
        pid = child_of(worker)
        until = folder / "until"
        sent = worker.send("leak_app.hold", arm.task, str(folder / "secret-0"), str(until))
        wait_until((folder / "until.held").exists, what="the secret to be held")
        yield worker, pid, Scanner([secret])
        if worker.exit_status is None and not until.exists() and psutil.pid_exists(pid):
            until.touch()
            sent.get(timeout=30, propagate=False)


def scan_cores(arm: Arm, *, broker: str, folder: Path) -> dict[str, int | None]:
    """Dump a process that holds a secret, in each way; None for what this system can't do."""
    found: dict[str, int | None] = dict.fromkeys(CORES)
    with holding(arm, broker=broker, folder=folder) as (worker, pid, scanner):
        for command in ("gcore", "gcore -a"):
            path = folder / command.replace(" ", "")
            if _gcore(command.split(), path, pid):
                (core,) = folder.glob(f"{path.name}.{pid}")
                found[command] = len(scanner.file(core))
                core.unlink()
        pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
        if not pattern.startswith(("|", "/")):
            os.kill(pid, signal.SIGABRT)
            child_of(worker)  # the next one: the dump is complete before a process is gone
            cores = list(folder.glob("core*"))
            if cores:
                found[CORES[0]] = len(scanner.file(cores[0]))
    return found


def _gcore(command: list[str], path: Path, pid: int) -> bool:
    try:
        subprocess.run(
            [*command, "-o", str(path), str(pid)], check=True, timeout=100, capture_output=True
        )
    except FileNotFoundError:
        return False
    return True
