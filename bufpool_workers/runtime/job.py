"""The running job, as every host describes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from bufpool_workers._docs import documented
from bufpool_workers.memory import _core

REPLY_HEADER: Final = "bufpool_reply_to"
"""The header of a message in which a caller names the key for its result, by the key's id."""


class Reply(NamedTuple):
    """The receiver of a job's result."""

    is_kept: bool = True
    """False where nobody gets it."""
    key_id: object = None
    """The caller's key that it shall be sealed to, as the caller named it in `REPLY_HEADER`."""


@documented
@dataclass(slots=True)  # not frozen, which would double its cost to each job
class Job:
    """One run of a job."""

    id: str
    """Its id, which stays the same over its retries."""
    name: str
    """The name that tokens are bound to."""
    function: Callable[..., Any] | None = None
    """The user's own function, without what decorators put around it."""
    note_use: Callable[[str, str, int], bool] | None = None
    """The store of single-use tokens (`sealing.single_use.Store`)."""
    give_up: Callable[[], None] | None = None
    """Called when a token doesn't open, or a result can't be sealed: no retry would help."""
    reply: Callable[[], Reply] | None = None
    """Returns where the result goes; without it the result is kept."""
    is_replying: bool = False
    """A `sealed_result` body runs: a call of the same function from there is a plain one."""


def current_job() -> Job | None:
    """Return the job that runs in this context; None for none, and for one that is over.

    Contexts are Python's (PEP 567): threads and greenlets that a job starts have their own, tasks
    of asyncio a copy of its.
    """
    job: Job | None = _core.current_job()
    return job
