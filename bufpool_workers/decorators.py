"""`pooled_buffer`, `sealed`, `sealed_result`: what a task is lent, and what leaves it sealed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

from bufpool_workers import memory
from bufpool_workers._opening import wrap_opening
from bufpool_workers._sizes import Size, check_size, size_of_call
from bufpool_workers._wrapping import form_around, wrap
from bufpool_workers.runtime.results import result_sealer
from bufpool_workers.sealing.parameters import (
    record,
    record_result,
    sealed_names,
    sealed_parameters,
    seals_result,
)
from bufpool_workers.sealing.result_token import Returned
from bufpool_workers.signatures import (
    check_function,
    hidden_signature,
    name_of,
    signature_of,
    unwrapped,
)

Function = Callable[..., Any]
Kind = Literal["regular", "secure", "random"]
P = ParamSpec("P")
R = TypeVar("R")


# ParamSpec can neither leave out a keyword-only parameter nor change the type of one (PEP 612): a
# caller passes no buffer, and a token where the body has a Buffer, so parameters are not checked
class _KeepsResult(Protocol):
    def __call__(self, function: Callable[..., R], /) -> Callable[..., R]: ...


_LENDERS = {
    "regular": memory.buffer,
    "secure": memory.secure_buffer,
    "random": memory.random_buffer,
}


def pooled_buffer(size: Size, *, name: str = "buf", kind: Kind = "regular") -> _KeepsResult:
    """Pass a buffer to each call of a task, as its keyword-only parameter `name`.

    `size` is in bytes: an int, text such as "64KiB", or a function that returns one of these. The
    function is called with the task's arguments that it names (with `**`, all of them), defaults
    included, without the `self` of a bound task. The buffer is lent before the body runs, and
    given back when the body returns or raises, or when a coroutine function has been awaited.
    Callers neither see nor pass the parameter: it is hidden from the task's signature.

    Put it below `@app.task`; stack it for more than one buffer. Raises TypeError or ValueError if
    it stands above `@app.task`, on a generator function, or on a function without that
    keyword-only parameter, and for an invalid size.
    """
    check_size(size)
    if kind not in _LENDERS:
        raise ValueError(f"pooled_buffer: kind {kind!r} is not one of {', '.join(_LENDERS)}")

    def decorate(function: Function) -> Function:
        shown = hidden_signature(function, name, decorator="pooled_buffer")
        form = form_around(function, shown, name)
        nbytes = size_of_call(size, shown, function)
        call = wrap(
            function,
            _LENDING,
            form=form,
            shown=shown,
            name=name,
            nbytes=f"_bufpool_nbytes({form.passed})" if callable(nbytes) else nbytes,
            names={
                "_bufpool_lend": _LENDERS[kind],
                "_bufpool_nbytes": nbytes,
                "_bufpool_release": memory.release_on_exit,
            },
        )
        return _as_layer(call, decorate, function)

    return decorate


# not a with statement, whose warning would name this wrapper instead of the task;
# memory.pools finds _bufpool_blame by this name, as the place of acquisition
_LENDING = """
{define} call{form.taken}:
    _bufpool_buffer = _bufpool_lend({nbytes})
    try:
        return {begin}_bufpool_function({form.passed}{name}=_bufpool_buffer){end}
    finally:
        _bufpool_release(_bufpool_buffer, _bufpool_blame)
"""


def sealed(*names: str) -> _KeepsResult:
    """Open the named arguments of a task: callers pass tokens of `seal`, the body gets Buffers.

    A buffer is secure memory of exactly the secret's length. It is wiped and given back when the
    body returns or raises, or when a coroutine function has been awaited. An argument that is left
    out, or given as its own default, stays as it is. A token that does not open raises a SealError
    that names task and argument. The body does not run, and the task fails without a retry, even
    with `autoretry_for`. After `setup` the app refuses to publish the task with a plain value.

    Put it below `@app.task`; it stacks with itself and with `pooled_buffer`. Raises TypeError or
    ValueError if it stands above `@app.task` or on a generator function, and for a name that is
    no parameter or can't be given by keyword.
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError('sealed needs the names of parameters: @sealed("password")')

    def decorate(function: Function) -> Function:
        check_function(function, decorator="sealed")
        try:
            parameters = sealed_parameters(signature_of(function), names)
        except ValueError as error:
            raise ValueError(f"sealed: {name_of(function)} has {error}") from None
        if twice := set(names) & set(sealed_names(function)):
            raise ValueError(f"sealed: {name_of(function)}: {min(twice)!r} is sealed already")
        call = wrap_opening(function, parameters)
        record(call, parameters)
        return _as_layer(call, decorate, function)

    return decorate


def sealed_result(function: Callable[P, R]) -> Callable[P, R]:
    """Seal what a task returns to its caller's public key, so that it lies nowhere in clear.

    The body returns bytes, str or a Buffer of at most 1 MiB; the Buffer is given back. The result,
    events and logs have a token, which `unseal_result` opens (HPKE in auth mode, RFC 9180). It is
    sealed to the first of the worker's `bufpool_result_public_keys`, or to the one of them that
    the caller names with `reply_to`. The worker's private key proves who made it. If one of these
    keys is missing, the task fails before its body runs. Another return type fails it, too.

    A direct call returns the plain value. If the result is ignored, nothing is sealed, and the
    task returns None. Exceptions, `update_state` and `replace` are not covered.

    Put it below `@app.task`; it stacks with `sealed` and `pooled_buffer` in any order. Raises
    TypeError if it stands above `@app.task`, on a generator function, or twice.
    """
    check_function(function, decorator="sealed_result")
    if seals_result(function):
        raise TypeError(f"sealed_result: {name_of(function)} has it already")
    # below the other decorators of ours, so that a buffer that is returned is still lent
    body: Function = function
    layers = []
    while (layer := _layer_of(body)) is not None:
        decorate, body = layer
        layers.append(decorate)
    call = _sealing(body)
    for decorate in reversed(layers):
        call = decorate(call)
    return call


def _sealing(body: Function) -> Function:
    inner = unwrapped(body)
    call = wrap(
        body,
        _RETURNING,
        form=form_around(body, signature_of(body)),
        names={
            "_bufpool_sealer": lambda: result_sealer(inner),
            "_bufpool_returned": Returned,
            "_bufpool_release": _release_returned,
        },
    )
    record_result(call)
    return call


_RETURNING = """
{define} call{form.taken}:
    _bufpool_seal = _bufpool_sealer()
    if _bufpool_seal is None:
        return {begin}_bufpool_function({form.passed}){end}
    _bufpool_result = _bufpool_returned()
    _bufpool_result.value = {begin}_bufpool_function({form.passed}){end}
    try:
        return _bufpool_seal(_bufpool_result)
    finally:
        _bufpool_release(_bufpool_result, _bufpool_blame)
"""


def _release_returned(returned: Returned, blame: Any) -> None:
    if isinstance(returned.value, memory.Buffer):
        memory.release_on_exit(returned.value, blame)


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
