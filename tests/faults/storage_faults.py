"""Faults of the metrics directory under a running worker, and the file systems they happen on."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.node import Node
from tests.faults.process_faults import Fault

MOUNT_BYTES = 2 * 1024 * 1024
LOST = "the buffers of this process are in no scrape"
FOUND = "the buffers of this process are in the scrape again"


def mount(*arguments: str | Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    done = subprocess.run([tool("mount"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no mount here: {done.stderr.strip()}")


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    mount(*arguments)
    try:
        yield
    finally:
        # lazily: what a process that has just been killed held may still be on its way out
        subprocess.run([tool("umount"), "--lazy", arguments[-1]], check=True)


def tool(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"no {name}")


@contextmanager
def plain(directory: Path) -> Iterator[Path]:
    yield directory


@contextmanager
def small_tmpfs(directory: Path) -> Iterator[Path]:
    with mounted("-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", directory):
        yield directory


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    image = directory.with_name("disk")
    with image.open("wb") as file:
        file.truncate(MOUNT_BYTES)
    subprocess.run([tool("mkfs.ext4"), "-q", "-O", "^has_journal", "-m", "0", image], check=True)
    with mounted("-o", "loop", image, directory):
        yield directory


def fill(directory: Path) -> Path:
    """Leave no byte free in the file system of `directory`."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"f" * size)
            except OSError:  # full for this size
                continue
    return filler


def replace_a_child(node: Node) -> int:
    """Kill a child in its task; the process that takes its place."""
    held = [pid for _, pid in [node.hold() for _ in range(node.concurrency)]]
    newest = max(held)  # whose end is seen at once: no other one has inherited its pipes
    os.kill(newest, signal.SIGKILL)
    node.release()
    (new,) = node.work_in_each_process().difference(held)
    return new


def full(node: Node) -> None:
    """A new process finds no room, is warned of, serves, and counts when there is room again."""
    filler = fill(node.directory)
    seen = node.totals()
    new = replace_a_child(node)
    assert node.worker.log().count(LOST) == 1
    counted = node.totals()["regular"]
    assert seen["regular"] < counted == node.truth()["regular"] - node.truth_of(new)
    filler.unlink()
    node.work_in_each_process()
    node.worker.wait_for_log(FOUND)


def read_only(node: Node) -> None:
    with mounted("--bind", node.directory, node.directory):
        mount("-o", "remount,ro,bind", node.directory)
        new = replace_a_child(node)
        assert node.worker.log().count(LOST) == 1
        assert node.totals()["regular"] == node.truth()["regular"] - node.truth_of(new)
    node.work_in_each_process()
    node.worker.wait_for_log(FOUND)


def directory_deleted(node: Node) -> None:
    shutil.rmtree(node.directory)
    node.work_in_each_process()
    node.work_in_each_process(task="count_job")
    replace_a_child(node)
    node.work_in_each_process(task="count_job")


def files_deleted(node: Node) -> None:
    for file in node.directory.iterdir():
        file.unlink()
    node.work_in_each_process()


def mounted_over(node: Node) -> None:
    """The files come back after a while, with what they said then."""
    with small_tmpfs(node.directory):
        node.work_in_each_process()
        node.wait_exact()
    node.work_in_each_process()


STORAGE_FAULTS = (
    (plain, Fault("directory deleted", directory_deleted)),
    (plain, Fault("files deleted", files_deleted)),
    (plain, Fault("read-only", read_only, is_long=True)),
    (plain, Fault("mounted over", mounted_over)),
    (small_tmpfs, Fault("tmpfs full", full)),
    (small_disk, Fault("disk full", full, is_long=True)),
)
