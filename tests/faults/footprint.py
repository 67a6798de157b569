"""What a worker has in the system, to be compared before and after a fault."""

import contextlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.processes import LocalProcess

SHM = Path("/dev/shm")  # noqa: S108 (looked at, not written to)


@dataclass(frozen=True)
class Footprint:
    """The processes of a worker's session, and what they and its metrics directory hold.

    `descriptors` are main's, by what they are open on; `locked_kib` is VmLck, over all processes.
    """

    processes: int
    descriptors: Counter[str]
    locked_kib: int
    listening: int
    shared_memory: frozenset[str]
    files_of_the_dead: int
    temporary_files: int

    @classmethod
    def of(cls, worker: LocalProcess, directory: Path) -> "Footprint":
        """Look at what lives now; a process that ends meanwhile counts as far as it was seen."""
        members = worker.members()
        files = [path.name for path in directory.iterdir()]
        return cls(
            processes=len(members),
            descriptors=Counter(_kind(target) for target in _targets(worker.pid)),
            locked_kib=sum(map(_locked_kib, members)),
            listening=sum(map(_listening, members)),
            shared_memory=frozenset().union(*map(_shared_memory, members)),
            files_of_the_dead=sum(_is_of_the_dead(name, members) for name in files),
            temporary_files=sum(name.endswith(".tmp") for name in files),
        )

    def beyond(self, before: "Footprint") -> dict[str, object]:
        """Return what has grown since then, and the shared memory that is left of then."""
        more: dict[str, object] = {
            name: f"{getattr(self, name)}, were {getattr(before, name)}"
            for name in (
                *("processes", "locked_kib", "listening"),
                *("files_of_the_dead", "temporary_files"),
            )
            if getattr(self, name) > getattr(before, name)
        }
        if extra := self.descriptors - before.descriptors:
            more["descriptors"] = dict(extra)
        unused = before.shared_memory - self.shared_memory
        if left := {name for name in unused if (SHM / name).exists()}:
            more["shared memory"] = sorted(left)
        return more


def _is_of_the_dead(name: str, living: list[int]) -> bool:
    """Return True if a dead process made it, and nothing has merged it."""
    numbers = set(map(int, re.findall(r"(?<![0-9a-f])\d+(?![0-9a-f])", name)))
    return name.endswith(".db") and "merged" not in name and numbers.isdisjoint(living)


def _targets(pid: int) -> list[str]:
    found = []
    for link in _entries(Path(f"/proc/{pid}/fd")):
        with contextlib.suppress(OSError):  # closed since it was listed
            found.append(str(link.readlink()))
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # the process has ended
        return []


def _kind(target: str) -> str:
    """The type of a nameless thing (socket, pipe, anon_inode); all else is a file."""
    return target.partition(":")[0] if ":[" in target else "file"


def _locked_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmLck:"):
                return int(line.split()[1])
    return 0


def _listening(pid: int) -> int:
    with contextlib.suppress(psutil.Error):
        connections = psutil.Process(pid).net_connections("tcp")
        return sum(connection.status == psutil.CONN_LISTEN for connection in connections)
    return 0


def _shared_memory(pid: int) -> set[str]:
    """The names at the top of /dev/shm that a process has open or mapped."""
    paths = set(_targets(pid))
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            paths.add(line.split(maxsplit=5)[-1])
    inside = (Path(path) for path in paths if path.startswith(f"{SHM}/"))
    return {path.relative_to(SHM).parts[0] for path in inside if "(deleted)" not in path.name}
