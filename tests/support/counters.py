"""What the tests of the metrics make and look at."""

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.values import MultiProcessValue

from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.counterfile import CounterFile
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.pool_stats import FIELDS
from tests.support.forked import run_forked

_classes: list[type] = []
POOLS = {"regular": ("2kb", "4kb"), "secure": ("2kb",)}


def make_file(directory, *, catalog, pools, **rooms) -> CounterFile:
    """Make the calling process's file with these pools' numbers, and such rooms as `places`."""
    return CounterFile.allocate(directory, catalog=catalog, pools=pools, **rooms).publish()


def values_of_process(pid: Callable[[], int]) -> type:
    """Return prometheus_client's class of values, as it is in the process of that pid."""
    _classes.append(MultiProcessValue(pid))  # kept: its files are closed by us alone
    return _classes[-1]


class Workers:
    """Makes counter files, of the living and of the dead, in one directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.living: list[CounterFile] = []

    def count(self, *, pool="regular", label="2kb", **fields) -> CounterFile:
        """A living process's file, with these numbers in it."""
        file = make_file(self.directory, catalog=Catalog(), pools=POOLS)
        at = POOLS[pool].index(label) * len(FIELDS)
        with memoryview(file.buffer) as bytes_, bytes_.cast("d") as doubles:
            for field, value in fields.items():
                doubles[file.offsets(pool)[at + FIELDS.index(field)] // 8] = value
        self.living.append(file)
        return file

    def count_and_die(self, **fields) -> Path:
        """A dead process's file."""
        file = self.count(**fields)
        self.living.remove(file)
        file.close()
        return file.path

    def end(self):
        for file in self.living:
            file.close()


def total(directory: Path, family="bufpool_gets") -> float:
    snapshot = read_directory(directory)
    start = f'["{family}", '.encode()
    return sum(number.value for _, _, key, number in snapshot.merged() if key.startswith(start))


def close_metric_files() -> None:
    """Close the files of prometheus_client's own values in this process."""
    for found in gc.get_objects():  # before 0.26 it has no other way
        if issubclass(type(found), MmapedDict):  # a proxy of Celery would look for its task
            found.close()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {
        ".bufpool-compact.lock",
        ".bufpool-history",
    }


def killed_at(step: int, work) -> bool:
    """Run `work` in a child that is SIGKILLed before its nth system call that Python audits."""

    def run():
        import sys  # noqa: PLC0415 - in the child only

        left = step

        def hook(event, _args):
            nonlocal left
            if event.partition(".")[0] in {"open", "os", "fcntl", "mmap"}:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()

    code = run_forked(run)
    assert code in {0, -signal.SIGKILL}
    return code != 0
