"""Calls of a function as jobs, for executors and for job systems that have no adapter."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from bufpool_workers._asking import asking
from bufpool_workers.runtime import Job, current_job, current_runtime
from bufpool_workers.signatures import (
    JOB_MARK,
    check_is_no_task,
    is_async,
    name_of,
    signature_of,
    unwrapped,
)

__all__ = ["as_job", "job_name"]

P = ParamSpec("P")
T = TypeVar("T")


class _KeepsSignature(Protocol):
    def __call__(self, function: Callable[P, T], /) -> Callable[P, T]: ...


@overload
def as_job(  # type: ignore[overload-overlap]  # the first that fits counts, as PEP 484 has it
    function: Callable[P, Coroutine[Any, Any, T]], /
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def as_job(function: Callable[P, T], /) -> JobFunction[P, T]: ...
@overload
def as_job(*, job_id: Callable[..., str | int]) -> _KeepsSignature: ...
def as_job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    job_id: Callable[..., str | int] | None = None,
) -> Any:
    """Make each call of a function a job: `executor.submit(as_job(resize), path)`, or a decorator.

    For executors, and for job systems without an adapter: put it above `sealed`, `sealed_result`
    and `pooled_buffer`, and below the decorator of the job system. In the call tokens are opened
    and a result is sealed. What it still holds when it is over is taken back, with a warning. A
    coroutine function stays one. The attribute `name` is what `seal` needs as `task`: the module
    and name of the function.

    `job_id` returns the job system's own id of the call, which stays the same in retries, so that a
    single-use token opens in them again. It is called with the arguments of the call that it names,
    as in `as_job(job_id=lambda ctx: ctx["job_id"])`. Without it each call has an id of its own.

    Raises TypeError for what is no function, for a generator function, and if `job_id` names
    parameters that the function does not have.
    """
    if job_id is not None and not callable(job_id):
        raise TypeError(f"as_job: job_id is a function, not {type(job_id).__name__}")
    if function is None:
        return functools.partial(_as_job, job_id=job_id)
    return _as_job(function, job_id=job_id)


def _as_job(function: Callable[..., Any], job_id: Callable[..., str | int] | None) -> Any:
    if not callable(function):
        raise TypeError(f"as_job is for functions, not {type(function).__name__}")
    check_is_no_task(function, decorator="as_job")
    inner = unwrapped(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(f"as_job: {name_of(function)} is a generator function, which no call runs")
    made = JobFunction(function, job_id)
    return made.as_coroutine_function() if is_async(function) else made


class JobFunction(Generic[P, T]):
    """A function each of whose calls is a job, as `as_job` makes it."""

    __wrapped__: Callable[P, T]

    def __init__(self, function: Callable[P, T], job_id: Callable[..., str | int] | None) -> None:
        functools.update_wrapper(self, function)
        setattr(self, JOB_MARK, True)
        self._user_function = unwrapped(function)
        self.name = job_name(self._user_function)
        self._given = job_id
        self._job_id = _own_id if job_id is None else _asked_id(job_id, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function as a job, inside the one that runs."""
        job = self._begin(args, kwargs)
        try:
            return self.__wrapped__(*args, **kwargs)
        finally:
            current_runtime().end_job(job)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        job = Job(self._job_id(*args, **kwargs), self.name, self._user_function)
        current_runtime().begin_job(job, nested=current_job() is not None)
        return job

    def as_coroutine_function(self) -> Callable[..., Any]:
        """Return the same as a coroutine function, by which job systems know what to await."""
        function = cast("Callable[..., Coroutine[Any, Any, Any]]", self.__wrapped__)

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            job = self._begin(args, kwargs)
            try:
                return await function(*args, **kwargs)
            finally:
                current_runtime().end_job(job)

        vars(call).update({JOB_MARK: True, "name": self.name})
        return call

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Return the name that this is found by, as a decorator's work, or how to make it."""
        found: Any = sys.modules.get(self.__module__)
        for part in cast("str", self.__qualname__).split("."):  # type: ignore[attr-defined]
            found = getattr(found, part, None)
        return self.__qualname__ if found is self else (_as_job, (self.__wrapped__, self._given))


def _own_id(*_args: Any, **_kwargs: Any) -> str:
    return os.urandom(16).hex()  # a third of the time of uuid4()


def _asked_id(asked: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., str]:
    def checked(given: Any) -> str:
        if isinstance(given, str) and given:
            return given
        raise TypeError(
            f"as_job: job_id of {name_of(function)} returned "
            f"{'an empty text' if given == '' else type(given).__name__}, not the id of a job"
        )

    ask = asking(asked, signature_of(function), function, whose="as_job: job_id", checked=checked)
    return lambda *args, **kwargs: str(ask(*args, **kwargs))  # some systems count their jobs


def job_name(function: Callable[..., Any]) -> str:
    """Return module and name of a function, the same in every process of its program."""
    module = getattr(function, "__module__", None) or "__main__"
    # what a spawned process calls its parent's main module
    return f"{'__main__' if module == '__mp_main__' else module}.{name_of(function)}"
