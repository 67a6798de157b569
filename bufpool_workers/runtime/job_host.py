"""The part that adapters of job systems have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from bufpool_workers.errors import ReplayStoreError
from bufpool_workers.runtime.job import Job, current_job
from bufpool_workers.runtime.plain_host import PlainHost
from bufpool_workers.runtime.process import current_runtime
from bufpool_workers.sealing.calls import check_call
from bufpool_workers.sealing.parameters import (
    SealedParameter,
    called_parameters,
    is_any_recorded,
)
from bufpool_workers.sealing.single_use import Store
from bufpool_workers.settings import Settings
from bufpool_workers.signatures import unwrapped

T = TypeVar("T")


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Import a job system; where it is not installed, name the extra that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ModuleNotFoundError(
            f"bufpool_workers.{name} needs {name}: pip install 'bufpool-workers[{name}]'", name=name
        ) from None


class JobHost(PlainHost):
    """A job system whose jobs call functions that it knows by name.

    Adapters tell it of them by `declare`; one whose job system keeps a list overrides `names` and
    `called`.
    """

    def __init__(self, name: str, settings: Settings | Mapping[str, Any] | None = None) -> None:
        super().__init__(name, settings)
        self._called: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        """The users' own functions, by the names of their jobs."""

    def declare(self, name: str, called: Any) -> None:
        """Hold on to the function or bound method of a job, whatever is wrapped around it later."""
        self._called[name] = called
        self.functions[name] = unwrapped(called)

    def names(self) -> Iterable[str]:
        """Return the names of its jobs."""
        return self._called

    def called(self, name: str) -> Any:
        """Return the function or bound method that a job calls; None for a name of no job."""
        return self._called.get(name)

    def called_job(self, function: Callable[..., Any]) -> Job | None:
        """Return a job for a function that runs because it was called, and not as a job."""
        for name in self.names():
            if unwrapped(self.called(name)) is function:
                return Job(str(uuid4()), name, function)
        return None

    def parameters(self, name: str) -> Sequence[SealedParameter]:
        """Return the sealed parameters of a job, as its callers count them."""
        called = self.called(name)
        return () if called is None else called_parameters(called)

    def check(self, call: Mapping[str, Any], *, key: str, **more: Any) -> Mapping[str, Any]:
        """Check a call before it is published, as `sealing.calls.check_call` does."""
        if not is_any_recorded():
            return call
        return check_call(call, key=key, parameters=self.parameters, **more)


def run_job(job: Job, call: Callable[[], T]) -> T:
    """Run a call as a job; take back what that still holds."""
    runtime = current_runtime()
    runtime.begin_job(job)
    try:
        return call()
    finally:
        runtime.end_job(job)


def end_job(job_id: str) -> None:
    """End the job of this context, if it is that one: take back what it still holds."""
    job = current_job()
    if job is not None and job.id == job_id:
        current_runtime().end_job(job)


def uses_in(client: Any, prefix: str, *, wanted: str) -> Store:
    """Return the store of single-use tokens that a job system's own client of Redis is.

    `wanted` says which broker has one, for the error where `client` is none.
    """
    return partial(_note_use, client, prefix, wanted)


def _note_use(  # noqa: PLR0913 - the last three are a store's
    client: Any, prefix: str, wanted: str, key: str, holder: str, seconds: int
) -> bool:
    from bufpool_workers import redis_store  # noqa: PLC0415 - not in producers

    if not hasattr(client, "execute_command"):
        raise ReplayStoreError(
            f"single-use tokens need {wanted}, or a Redis that bufpool_single_use_url names"
        )
    return redis_store.note_use(client, f"{prefix}:{key}", holder, seconds)
