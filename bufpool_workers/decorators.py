"""`pooled_buffer`, `sealed`, `sealed_result`: what a task is lent, and what leaves it sealed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from types import FunctionType
from typing import Any, Literal

from bufpool_workers import memory
from bufpool_workers.errors import SealError
from bufpool_workers.runtime import Job, current_runtime
from bufpool_workers.runtime.results import result_sealer
from bufpool_workers.sealing.parameters import (
    MISSING,
    record,
    record_result,
    sealed_names,
    sealed_parameters,
    seals_result,
)
from bufpool_workers.sealing.result_token import Returned
from bufpool_workers.sealing.single_use import claim
from bufpool_workers.signatures import BY_NAME, signature_of
from bufpool_workers.units import parse_size

Size = int | str | Callable[..., int | str]
Function = Callable[..., Any]

_LENDERS = {
    "regular": memory.buffer,
    "secure": memory.secure_buffer,
    "random": memory.random_buffer,
}


_POOLED = "__bufpool_pooled__"  # functools.wraps copies it to the decorators above


def pooled_buffer(
    size: Size, *, name: str = "buf", kind: Literal["regular", "secure", "random"] = "regular"
) -> Callable[[Function], Function]:
    """Pass a buffer to each call of a task, as its keyword-only parameter `name`.

    `size` is in bytes, as an int or text such as "64KiB", or a function that is called with all
    of the task's arguments by name (defaults included, the `self` of a bound task left out) and
    returns one. The buffer is lent before the body runs and given back when it returns or raises.
    The parameter is hidden from the task's signature, so callers neither see nor pass it.

    Stands below `@app.task`; stack it for more than one buffer. Raises TypeError or ValueError
    for what can't work: above `@app.task`, on a generator or coroutine function, on a function
    without that keyword-only parameter, with a size that is none.
    """
    _check_size(size)
    if kind not in _LENDERS:
        raise ValueError(f"pooled_buffer: kind {kind!r} is not one of {', '.join(_LENDERS)}")
    lend = _LENDERS[kind]

    def decorate(function: Function) -> Function:
        signature = hidden_signature(function, name, decorator="pooled_buffer")
        blame = _code(function)  # memory.pools finds it by this name, as the place of acquisition
        nbytes = _size_of_call(size, signature, function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if name in kwargs:
                raise TypeError(
                    f"{function.__qualname__}() got an unexpected keyword argument {name!r}: "
                    "pooled_buffer provides it"
                )
            buffer = lend(nbytes(args, kwargs))
            # not a with statement, whose warning would name this line instead of the task
            try:
                kwargs[name] = buffer
                return function(*args, **kwargs)
            finally:
                memory.release_on_exit(buffer, blame)

        call.__signature__ = signature  # type: ignore[attr-defined]  # read by inspect and Celery
        setattr(call, _POOLED, True)
        return _as_layer(call, decorate, function)

    return decorate


def is_pooled(function: Any) -> bool:
    """Return whether a function gets buffers of `pooled_buffer`."""
    return getattr(function, _POOLED, False) is True


def sealed(*names: str) -> Callable[[Function], Function]:
    """Open the named arguments of a task: each comes as a token of `seal`, the body gets a Buffer.

    The buffer is secure memory of exactly the secret's length, wiped and given back when the body
    returns or raises. An argument that is left out, or given as its own default, stays as it is.
    What does not open raises a SealError that names task and argument; the body is not run, and
    the task fails without a retry, `autoretry_for` or not. An app that `setup` was called with
    refuses to publish the task with such an argument unsealed.

    Stands below `@app.task`; stacks with itself and with `pooled_buffer`. Raises TypeError or
    ValueError for what can't work: above `@app.task`, on a generator or coroutine function, for a
    name that is not a parameter or can't be given by keyword.
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError('sealed needs the names of parameters: @sealed("password")')

    def decorate(function: Function) -> Function:
        _check_function(function, decorator="sealed")
        try:
            parameters = sealed_parameters(signature_of(function), names)
        except ValueError as error:
            raise ValueError(f"sealed: {function.__qualname__} has {error}") from None
        if twice := set(names) & set(sealed_names(function)):
            raise ValueError(f"sealed: {function.__qualname__}: {min(twice)!r} is sealed already")
        inner = inspect.unwrap(function)
        blame = _code(function)  # as in pooled_buffer

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            job = _running_job(inner)
            positional = list(args)
            with ExitStack() as opened:
                for parameter in parameters:
                    token = parameter.value(args, kwargs)
                    if token is MISSING:
                        continue
                    buffer = _unseal(token, job, parameter.name)
                    opened.callback(memory.release_on_exit, buffer, blame)
                    if parameter.name in kwargs:
                        kwargs[parameter.name] = buffer
                    elif parameter.position is not None:
                        positional[parameter.position] = buffer
                return function(*positional, **kwargs)

        record(call, parameters)
        return _as_layer(call, decorate, function)

    return decorate


def sealed_result(function: Function) -> Function:
    """Seal what a task returns to its caller's public key, so that it lies nowhere in clear.

    The body returns bytes, str or a Buffer, which is given back, of at most 1 MiB; the result,
    events and logs are a token that `unseal_result` opens. It is sealed to the first of the
    worker's `bufpool_result_public_keys`, or to that one of them which the caller names with
    `reply_to`, and the worker's own private key proves who made it. Where one of these keys is
    missing the task fails before its body runs; another return type fails it, too.

    A direct call returns the plain value. Where the result is ignored nothing is sealed, and None
    is returned. Exceptions, `update_state` and `replace` are not covered.

    Stands below `@app.task`; stacks with `sealed` and `pooled_buffer` in any order. Raises
    TypeError for what can't work: above `@app.task`, on a generator or coroutine function, twice.
    """
    _check_function(function, decorator="sealed_result")
    if seals_result(function):
        raise TypeError(f"sealed_result: {function.__qualname__} has it already")
    # below the other decorators of ours, so that a buffer that is returned is still lent
    layers, body = [], function
    while (layer := _layer_of(body)) is not None:
        decorate, body = layer
        layers.append(decorate)
    call = _sealing(body)
    for decorate in reversed(layers):
        call = decorate(call)
    return call


def _sealing(body: Function) -> Function:
    inner = inspect.unwrap(body)
    blame = _code(body)  # as in pooled_buffer

    @functools.wraps(body)
    def call(*args: Any, **kwargs: Any) -> Any:
        seal = result_sealer(inner)
        if seal is None:
            return body(*args, **kwargs)
        returned = Returned()
        returned.value = body(*args, **kwargs)
        try:
            return seal(returned)
        finally:
            if isinstance(returned.value, memory.Buffer):
                memory.release_on_exit(returned.value, blame)

    record_result(call)
    return call


def _as_layer(
    call: Function, decorate: Callable[[Function], Function], below: Function
) -> Function:
    """Note how a function was made, so that `sealed_result` can make it around another one."""
    call.__bufpool_layer__ = call, decorate, below  # type: ignore[attr-defined]
    return call


def _layer_of(function: Function) -> tuple[Callable[[Function], Function], Function] | None:
    # functools.wraps of other decorators copies the note, which is about our own function alone
    note = getattr(function, "__bufpool_layer__", None)
    return None if note is None or note[0] is not function else note[1:]


def _running_job(inner: Function) -> Job:
    """Return the job that runs `inner`: tokens are bound to its name."""
    job = current_runtime().job_of(inner)
    if job is None:
        raise TypeError(
            f"{inner.__qualname__}: sealed arguments are opened for a task: call the task itself, "
            "of an app that bufpool_workers.setup was called with"
        )
    return job


def _unseal(token: Any, job: Job, name: str) -> memory.Buffer:
    runtime = current_runtime()
    store = runtime.use_store(job)
    use = functools.partial(claim, store=store, holder=job.id) if store else None
    try:
        return runtime.keyring.unseal(token, task=job.name, argument=name, claim=use)
    except SealError:
        if job.give_up is not None:
            job.give_up()
        raise


def hidden_signature(function: Function, name: str, *, decorator: str) -> inspect.Signature:
    """Return the signature of `function` without the keyword-only parameter that is injected.

    Raises TypeError, in the name of `decorator`, where a buffer can't be injected.
    """
    _check_function(function, decorator=decorator)
    signature = signature_of(function)
    parameter = signature.parameters.get(name)
    if parameter is None or parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        raise TypeError(
            f"{decorator}: {function.__qualname__} needs a keyword-only parameter {name!r}, as in "
            f"def {function.__name__}(..., *, {name})"
        )
    kept = [p for p in signature.parameters.values() if p.name != name]
    return signature.replace(parameters=kept)


def _check_function(function: Function, *, decorator: str) -> None:
    if hasattr(function, "apply_async"):  # a task, or Celery's promise of one
        raise TypeError(f"{decorator} stands below @app.task, not above it")
    if not isinstance(function, FunctionType):
        raise TypeError(f"{decorator} is for functions, not {type(function).__name__}")
    inner = inspect.unwrap(function)
    if (
        inspect.isgeneratorfunction(inner)
        or inspect.iscoroutinefunction(inner)
        or inspect.isasyncgenfunction(inner)
    ):
        raise TypeError(
            f"{decorator}: {function.__qualname__} is a generator or coroutine function, which "
            "runs after its buffer was given back"
        )


def _check_size(size: Size) -> None:
    if callable(size):
        if hasattr(size, "apply_async") or "buf" in _parameters(size):
            raise TypeError("pooled_buffer needs a size: @pooled_buffer(64 * KiB)")
    elif parse_size(size) < 0:
        raise ValueError(f"pooled_buffer: {size} bytes asked, the least is 0")


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(signature_of(function).parameters)
    except (TypeError, ValueError):  # some builtins have no signature
        return {}


def _size_of_call(
    size: Size, signature: inspect.Signature, function: Function
) -> Callable[[tuple[Any, ...], dict[str, Any]], int | str]:
    """Make the function that gives a call's size from its arguments."""
    if not callable(size):
        constant = parse_size(size)
        return lambda _args, _kwargs: constant
    parameters = list(signature.parameters)

    def nbytes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        named = dict(bound.arguments)
        if args and hasattr(args[0], "apply_async"):  # bind=True
            del named[parameters[0]]
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                named.update(named.pop(parameter.name))
        # buffers are other decorators' doing, not arguments of the task
        given = size(**{k: v for k, v in named.items() if not isinstance(v, memory.Buffer)})
        if isinstance(given, bool) or not (isinstance(given, str) or hasattr(given, "__index__")):
            raise TypeError(
                f"pooled_buffer: the size function of {function.__qualname__} gave "
                f'{type(given).__name__}, not an int or text such as "64KiB"'
            )
        return given

    wanted = [
        p.name for p in _parameters(size).values() if p.default is p.empty and p.kind in BY_NAME
    ]
    missing = [p for p in wanted if p not in parameters]
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    if missing and not takes_any:
        raise TypeError(
            f"pooled_buffer: the size function of {function.__qualname__} wants "
            f"{', '.join(missing)}; the task has {', '.join(parameters) or 'no parameters'}"
        )
    return nbytes


def _code(function: Function) -> Any:
    return inspect.unwrap(function).__code__
