"""`make suites`: RQ's and Dramatiq's own tests pass with the adapter as they do without it.

Each suite runs twice, as it is and with the adapter. What fails with it alone runs again by itself,
up to three times, since some of these tests have half a second for what they wait for. RQ's come
from its source distribution. Dramatiq's has not all of them: they come from its repository, or from
the folder that the variable DRAMATIQ names.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from tests.support.processes import LocalProcess
from tests.support.redis_server import find_redis, wait_for_redis

PORT = 6379  # these suites know no other
FOLDER = Path("build/suites").absolute()
VARIABLE = "BUFPOOL_TEST_SUITES"  # set in the network of their own
TRIES = 3
PLUGINS = Path(__file__).parent


class Suite(NamedTuple):
    """A job system's tests: what they leave out, and which of them can't pass with the adapter."""

    name: str
    options: Sequence[str]
    expected: dict[str, str]

    @property
    def folder(self) -> Path:
        """The folder of its sources, of the version that is installed."""
        return FOLDER / f"{self.name}-{version(self.name)}"


NO_CALL = "a description names the function without its arguments"
SUITES = (
    Suite(
        "rq",
        (),
        {
            "tests.test_job.TestJob.test_description_is_persisted": NO_CALL,
            "tests.test_job.TestJob.test_unicode": NO_CALL,
            "tests.test_worker.TestWorker.test_log_job_description_on_dequeue_true": NO_CALL,
            "tests.test_worker.TestWorker.test_log_job_description_on_success_true": NO_CALL,
        },
    ),
    Suite(
        "dramatiq",
        ("--ignore=tests/benchmarks", "--ignore=tests/test_rabbitmq.py"),
        {
            "tests.test_broker.test_can_instantiate_brokers_without_middleware": "it has ours",
        },
    ),
)


def fetch(suite: Suite) -> None:
    """Fetch the sources of a suite, unless they are there."""
    if suite.folder.exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    number = version(suite.name)
    if given := os.environ.get(suite.name.upper()):
        shutil.copytree(given, suite.folder)
    elif suite.name == "dramatiq":
        url = "https://github.com/Bogdanp/dramatiq"
        command = ["git", "clone", "--quiet", "--depth=1", f"--branch=v{number}", url]
        subprocess.run([*command, str(suite.folder)], check=True)
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary=:all:", f"--dest={FOLDER}", f"{suite.name}=={number}"]
        subprocess.run(command, check=True)
        with tarfile.open(FOLDER / f"{suite.name}-{number}.tar.gz") as archive:
            archive.extractall(FOLDER, filter="data")


@contextmanager
def redis() -> Iterator[None]:
    """Serve a Redis on the port that these suites use."""
    command = [find_redis().path, "--port", str(PORT), "--bind", "127.0.0.1", "--save", ""]
    command += ["--databases", "20", "--dir", str(FOLDER)]
    with LocalProcess(command, log=FOLDER / "redis.log") as process:
        wait_for_redis(process, port=PORT)
        yield


def failed(suite: Suite, *names: str, adapter: bool) -> tuple[set[str], int]:
    """Run a suite, or some of its tests; return those that fail, and how many ran."""
    results = FOLDER / f"{suite.name}-{'with' if adapter else 'plain'}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "--timeout=120"]
    command += ["-p", "no:cacheprovider", "-p", "no_children_left", "--tb=short"]
    command += [f"--junitxml={results}", *suite.options]
    command += ["-p", f"bufpool_in_{suite.name}"] if adapter else []
    environ = os.environ | {
        "PYTHONPATH": str(PLUGINS),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with redis(), results.with_suffix(".log").open("w") as log:
        subprocess.run(
            [*command, *(names or ["tests"])],
            cwd=suite.folder,
            env=environ,
            stdout=log,
            stderr=log,
            check=False,
        )
    cases = list(ET.parse(results).getroot().iter("testcase"))  # noqa: S314 - of our own run
    bad = {
        f"{case.get('classname')}.{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    return bad, len(cases)


def places(names: set[str], folder: Path) -> list[str]:
    """Return the names of tests as pytest takes them."""
    found = []
    for name in sorted(names):
        parts = name.split(".")
        while not (module := folder / f"{'/'.join(parts)}.py").exists():
            parts.pop()
        rest = name[len(".".join(parts)) + 1 :].replace(".", "::")
        found.append(f"{module.relative_to(folder)}::{rest}")
    return found


def compare(suite: Suite) -> bool:
    """Run a suite with and without the adapter; return whether they differ as expected."""
    plain, number = failed(suite, adapter=False)
    ours, _ = failed(suite, adapter=True)
    for _ in range(TRIES):
        if differ := ours - plain - suite.expected.keys():
            again = places(differ, suite.folder)
            ours = (ours - differ) | failed(suite, *again, adapter=True)[0]
    print(f"{suite.name} {version(suite.name)}: {number} tests, {len(plain)} fail without us")
    for name in sorted(ours - plain):
        print(f"  with the adapter fails {name}: {suite.expected.get(name, 'NOT EXPECTED')}")
    return number > 0 and ours - plain <= suite.expected.keys()


def main(*names: str) -> int:
    """Compare the suites of these names, or all; return 1 if one is not as it was."""
    suites = [suite for suite in SUITES if not names or suite.name in names]
    for suite in suites:
        fetch(suite)
    enter_network()
    are_alike = [compare(suite) for suite in suites]  # each of them, whatever the first says
    return 0 if all(are_alike) else 1


def enter_network() -> None:
    """Start again in a network of its own, where there can be one: there the port is free."""
    own = [
        "unshare",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
    ]
    can = shutil.which("unshare") and not subprocess.run([*own, "true"], check=False).returncode
    if can and VARIABLE not in os.environ:
        command = [*own, sys.executable, "-m", "tests.suites", *sys.argv[1:]]
        os.execvpe(command[0], command, os.environ | {VARIABLE: "1"})  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
