"""The files of a metrics directory, and what their names say."""

import os
import re
from functools import lru_cache
from typing import Final, NamedTuple, Self

from bufpool_workers.counters.format import FILE_KINDS, DamagedFileError
from bufpool_workers.counters.liveness import ProcessIdentity

SUFFIX: Final = ".db"
TEMPORARY: Final = ".tmp"
MERGE_PREFIX: Final = ".bufpool-merge-"
OWN_KIND: Final = "counter"
PEAK_KIND: Final = "gauge_max"
_NEW_PREFIXES: Final = tuple(f".{kind}_bufpool-" for kind in (OWN_KIND, PEAK_KIND))
LOCK: Final = ".bufpool-compact.lock"

_MERGED: Final = "bufpool-merged"
_CLAIM: Final = re.compile(r"-bufpool-[0-9a-f]{8}$")
_OURS: Final = re.compile(
    r"(counter|gauge_max)_bufpool-([0-9a-f]{8})-(\d{1,9})-(\d{1,18})-[0-9a-f]{8}\.db"
)


class FileName(NamedTuple):
    """The name of a multiprocess file, read.

    | name | who writes it |
    |---|---|
    | `counter_bufpool-<host>-<pid>-<started>-<random>.db` | this package, once per process |
    | `gauge_max_bufpool-...db`, the same | likewise, with bufpool_task_metrics: the peaks |
    | `<kind>_<pid>.db`, `gauge_<mode>_<pid>.db` | prometheus_client; pids come again |
    | `<kind>_<pid>-bufpool-<random>.db` | no process any more: claimed for compaction |
    | `<kind>_bufpool-merged.db` | compaction: the numbers of the dead, one kind |
    """

    name: str
    kind: str
    process: str
    owner: ProcessIdentity | None

    @classmethod
    @lru_cache(maxsize=4096)
    def parse(cls, name: str) -> Self:
        """Read a name; raises DamagedFileError for one that no counting process gives."""
        if not name.isprintable():
            raise DamagedFileError("no metric file has such a name")
        ours = _OURS.fullmatch(name)
        if ours:
            kind, host_id, pid, started = ours.groups()
            return cls(name, kind, pid, ProcessIdentity(host_id, int(pid), int(started)))
        parts = name.removesuffix(SUFFIX).split("_")
        depth = 2 if parts[0] == "gauge" else 1
        kind = "_".join(parts[:depth])
        if kind not in FILE_KINDS or len(parts) <= depth:
            raise DamagedFileError("no metric file has such a name")
        return cls(name, kind, _CLAIM.sub("", parts[depth]), None)

    @property
    def is_merged(self) -> bool:
        """Return whether it holds the numbers of dead processes of its kind."""
        return self.process == _MERGED

    @property
    def is_claimed(self) -> bool:
        """Return whether compaction renamed it, so that no process opens it again."""
        return self.owner is None and bool(_CLAIM.search(self.name.removesuffix(SUFFIX)))

    def claimed(self) -> str:
        """Make a name of the same meaning that no process will ever open for writing."""
        return f"{self.kind}_{self.process}-bufpool-{os.urandom(4).hex()}{SUFFIX}"


def merged_name(kind: str) -> str:
    """Name the file that holds the dead of a kind."""
    return f"{kind}_{_MERGED}{SUFFIX}"


def is_leftover(name: str) -> bool:
    """Return whether it is a file that is not in its place yet, or that a crash has left."""
    return name.startswith((MERGE_PREFIX, *_NEW_PREFIXES)) and name.endswith(TEMPORARY)


def own_name(owner: ProcessIdentity) -> str:
    """Make a name for a new file of ours: unique, also when pids and start times come again."""
    return f"{OWN_KIND}_bufpool-{'-'.join(map(str, owner))}-{os.urandom(4).hex()}{SUFFIX}"


def peak_name(name: str) -> str:
    """Return the name of the peaks that belong to a file of ours."""
    return f"{PEAK_KIND}{name.removeprefix(OWN_KIND)}"
