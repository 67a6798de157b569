"""The side of `sealed` that runs in a call: tokens come in, buffers stand in their place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from bufpool_workers import memory
from bufpool_workers._wrapping import ANYTHING, form_around, wrap
from bufpool_workers.errors import SealError
from bufpool_workers.runtime import Job, current_job, current_runtime
from bufpool_workers.sealing.parameters import MISSING, SealedParameter
from bufpool_workers.sealing.single_use import claim
from bufpool_workers.signatures import name_of, signature_of, unwrapped

_TEMPLATE = """
{define} call{form.taken}:
    _bufpool_opened = []
    try:
        _bufpool_job = _bufpool_running()
{opening}
        return {begin}_bufpool_function({form.passed}){end}
    finally:
        for _bufpool_buffer in reversed(_bufpool_opened):
            _bufpool_release(_bufpool_buffer, _bufpool_blame)
"""


def wrap_opening(
    function: Callable[..., Any], parameters: Sequence[SealedParameter]
) -> Callable[..., Any]:
    """Return a wrapper that opens these parameters for each call of a function."""
    form = form_around(function, signature_of(function))
    return wrap(
        function,
        _TEMPLATE,
        form=form,
        opening=_ANY_OPENING if form is ANYTHING else "".join(map(_opening_of, parameters)),
        names={
            "_bufpool_running": functools.partial(_running_job, unwrapped(function)),
            "_bufpool_parameters": parameters,
            "_bufpool_by_name": {p.name: p for p in parameters},
            "_bufpool_open": _open,
            "_bufpool_open_arguments": _open_arguments,
            "_bufpool_release": memory.release_on_exit,
        },
    )


_ANY_OPENING = """
        args = _bufpool_open_arguments(
            _bufpool_parameters, _bufpool_job, args, kwargs, _bufpool_opened
        )"""


def _opening_of(parameter: SealedParameter) -> str:
    """Return the source that puts a buffer in the place of a parameter's token."""
    name = parameter.name
    source = f"{name} = _bufpool_open({name}, _bufpool_job, {name!r}, _bufpool_opened)"
    if parameter.default is MISSING:
        return f"\n        {source}"
    return f"""
        if not _bufpool_by_name[{name!r}].is_default({name}):
            {source}"""


def _open_arguments(
    parameters: Sequence[SealedParameter],
    job: Job,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    opened: list[memory.Buffer],
) -> Sequence[Any]:
    """Put buffers in the place of tokens, into `kwargs` and into the arguments that it returns."""
    positional = list(args)
    for parameter in parameters:
        token = parameter.value(args, kwargs)
        if token is MISSING:
            continue
        buffer = _open(token, job, parameter.name, opened)
        if parameter.name in kwargs:
            kwargs[parameter.name] = buffer
        elif parameter.position is not None:
            positional[parameter.position] = buffer
    return positional


def _open(token: Any, job: Job, name: str, opened: list[memory.Buffer]) -> memory.Buffer:
    """Return a buffer with what a token holds.

    `opened` gets it at once, so that the caller gives all back that were opened before an error.
    """
    runtime = current_runtime()
    if runtime.open_plain is not None and (plain := runtime.open_plain(token)) is not None:
        opened.append(plain)
        return plain
    store = runtime.keys.use_store(job)
    use = functools.partial(claim, store=store, holder=job.id) if store else None
    try:
        buffer = runtime.keys.private.unseal(token, task=job.name, argument=name, claim=use)
    except SealError as error:
        runtime.counters.count_unseal(error.reason)
        if job.give_up is not None:
            job.give_up()
        raise
    opened.append(buffer)
    runtime.counters.count_unseal()
    return buffer


def _running_job(inner: Callable[..., Any]) -> Job:
    """Return the job that runs `inner`: tokens are bound to its name."""
    runtime = current_runtime()
    job = runtime.job_of(inner)
    if job is None and runtime.open_plain is not None:
        return Job(id="", name=name_of(inner))
    if job is None and (running := current_job()) is not None:
        raise TypeError(
            f"{name_of(inner)}: sealed arguments are opened for the function of the task that "
            f"runs, which is another one of {running.name}: leave `sealed` off one of the two "
            "where a subclass calls the run of its base, or call that task itself"
        )
    if job is None:
        raise TypeError(
            f"{name_of(inner)}: sealed arguments are opened for a task: call the task itself, "
            "of an app that bufpool_workers.setup was called with"
        )
    return job
