"""Sizes of `pooled_buffer`: constants, and functions of a task's arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from bufpool_workers._wrapping import compile_function, form_of
from bufpool_workers.memory import Buffer
from bufpool_workers.signatures import BY_NAME, name_of, signature_of
from bufpool_workers.units import parse_size

Size = int | str | Callable[..., int | str]

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_size(size: Size) -> None:
    """Raise TypeError or ValueError for what is no size, and no function of one."""
    if callable(size):
        if hasattr(size, "apply_async") or "buf" in (_parameters(size) or ()):
            raise TypeError("pooled_buffer needs a size: @pooled_buffer(64 * KiB)")
    elif parse_size(size) < 0:
        raise ValueError(f"pooled_buffer: size must not be negative, got {size}")


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    try:
        return dict(signature_of(function).parameters)
    except (TypeError, ValueError):  # some builtins have no signature
        return None


def size_of_call(
    size: Size, shown: inspect.Signature, function: Callable[..., Any]
) -> int | Callable[..., int | str]:
    """Return the size, or a function with the task's parameters that asks the size function."""
    if not callable(size):
        return parse_size(size)
    form = form_of(shown)
    nbytes = compile_function(
        _ASKING.format(form=form, arguments=_asked(size, shown, function)),
        form,
        {
            "_bufpool_size": size,
            "_bufpool_visible": _visible,
            "_bufpool_checked": functools.partial(_checked_size, name_of(function)),
        },
    )
    nbytes.__qualname__ = name_of(function)  # for the errors of wrong arguments
    return nbytes


_ASKING = """
def call{form.taken}:
    _bufpool_given = _bufpool_size({arguments})
    return _bufpool_given if _bufpool_given.__class__ is int else _bufpool_checked(_bufpool_given)
"""


def _asked(size: Callable[..., Any], shown: inspect.Signature, function: Callable[..., Any]) -> str:
    """Return the source of the arguments that a size function is called with.

    Raises TypeError if it wants some that the task does not have.
    """
    named = [p.name for p in shown.parameters.values() if p.kind not in _VARIABLE]
    rest = [p.name for p in shown.parameters.values() if p.kind is _VARIABLE[1]]
    wanted = _parameters(size)
    if wanted is None or any(p.kind is _VARIABLE[1] for p in wanted.values()):
        pairs = "".join(f"{name!r}: {name}, " for name in named)
        others = "".join(f"**{name}, " for name in rest)
        return f"**_bufpool_visible({{{others}{pairs}}})"
    missing = [
        p.name
        for p in wanted.values()
        if p.name not in named and p.default is p.empty and p.kind not in _VARIABLE
    ]
    if missing and not rest:
        raise TypeError(
            f"pooled_buffer: the size function of {name_of(function)} wants {', '.join(missing)}; "
            f"the task has {', '.join(named) or 'no parameters'}"
        )
    passed = [
        p.name if p.kind is p.POSITIONAL_ONLY else f"{p.name}={p.name}"
        for p in wanted.values()
        if p.name in named
    ]
    unnamed = [n for n, p in wanted.items() if n not in named and p.kind in BY_NAME]
    if rest and unnamed:  # they may be among the task's **kwargs
        passed.append(f"**{{n: {rest[0]}[n] for n in {unnamed!r} if n in {rest[0]}}}")
    return ", ".join(passed)


def _visible(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a task: no buffers of other decorators, no `self` of `bind=True`."""
    return {
        name: value
        for number, (name, value) in enumerate(arguments.items())
        if not (isinstance(value, Buffer) or (number == 0 and hasattr(value, "apply_async")))
    }


def _checked_size(name: str, given: Any) -> int | str:
    """Return what a size function gave; raise TypeError if it is no size."""
    if isinstance(given, bool) or not (isinstance(given, str) or hasattr(given, "__index__")):
        raise TypeError(
            f"pooled_buffer: the size function of {name} gave {type(given).__name__}, not an int "
            'or text such as "64KiB"'
        )
    return given  # type: ignore[no-any-return]  # an int, or what stands for one
