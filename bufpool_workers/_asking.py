"""Functions that are asked about a call, with those of its arguments that they name.

The size function of `pooled_buffer` is one, the `job_id` of `as_job` another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from bufpool_workers._wrapping import compile_function, form_of
from bufpool_workers.memory import Buffer
from bufpool_workers.signatures import BY_NAME, name_of, signature_of

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a function; None where it has no signature, as some builtins."""
    try:
        return dict(signature_of(function).parameters)
    except (TypeError, ValueError):
        return None


def asking(
    asked: Callable[..., Any],
    shown: inspect.Signature,
    function: Callable[..., Any],
    *,
    whose: str,
    checked: Callable[[Any], Any],
) -> Callable[..., Any]:
    """Return a function with the task's parameters that returns what `asked` says of them.

    `checked` returns that, or raises, and is called for all but a plain int. `whose` names `asked`
    in the TypeError that is raised if it wants parameters which the task does not have.
    """
    form = form_of(shown)
    ask = compile_function(
        _ASKING.format(form=form, arguments=_arguments(asked, shown, function, whose)),
        form,
        {"_bufpool_asked": asked, "_bufpool_visible": _visible, "_bufpool_checked": checked},
    )
    ask.__qualname__ = name_of(function)  # for the errors of wrong arguments
    return ask


_ASKING = """
def call{form.taken}:
    _bufpool_given = _bufpool_asked({arguments})
    return _bufpool_given if _bufpool_given.__class__ is int else _bufpool_checked(_bufpool_given)
"""


def _arguments(
    asked: Callable[..., Any],
    shown: inspect.Signature,
    function: Callable[..., Any],
    whose: str,
) -> str:
    """Return the source of the arguments that a function is asked with."""
    named = [p.name for p in shown.parameters.values() if p.kind not in _VARIABLE]
    rest = [p.name for p in shown.parameters.values() if p.kind is _VARIABLE[1]]
    wanted = parameters_of(asked)
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
            f"{whose} of {name_of(function)} wants {', '.join(missing)}; "
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
