"""Which arguments of a task are sealed, and where a call has them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bufpool_workers.sealing.token import Token
from bufpool_workers.signatures import signature_of

MISSING = inspect.Parameter.empty

_MARK = "__bufpool_sealed__"  # functools.wraps carries it up through other decorators
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class SealedParameter(NamedTuple):
    """A parameter that takes a token, with its position where it can be given by position."""

    name: str
    position: int | None
    default: Any

    def value(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, skipped: int = 0) -> Any:
        """Return what a call passes for it, or MISSING; so too what is the parameter's default.

        `skipped` positional arguments come before those in `args`.
        """
        value = MISSING
        if self.name in kwargs:
            value = kwargs[self.name]
        elif self.position is not None and 0 <= self.position - skipped < len(args):
            value = args[self.position - skipped]
        return MISSING if _is_default(value, self.default) else value


def _is_default(value: Any, default: Any) -> bool:
    # through a broker it comes as another object
    alike = type(value) is type(default) and isinstance(value, str | int | float)
    return value is default or (alike and bool(value == default))


def mark(function: Callable[..., Any], names: Sequence[str]) -> None:
    """Note on a function which of its parameters are sealed, besides those noted below it."""
    setattr(function, _MARK, (*sealed_names(function), *names))


def sealed_names(function: object) -> tuple[str, ...]:
    """Return the names of a function's sealed parameters."""
    names: tuple[str, ...] = getattr(function, _MARK, ())
    return names


def sealed_parameters(
    signature: inspect.Signature, names: Sequence[str]
) -> tuple[SealedParameter, ...]:
    """Find parameters by name; ValueError for a name that can't be given by keyword."""
    positions = list(signature.parameters)
    found = []
    for name in names:
        parameter = signature.parameters.get(name)
        if parameter is None or parameter.kind not in _BY_NAME:
            raise ValueError(f"no parameter {name!r}")
        by_position = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        position = positions.index(name) if by_position else None
        found.append(SealedParameter(name, position, parameter.default))
    return tuple(found)


def check_call(
    task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, skipped: int = 0
) -> None:
    """Raise NotSealed or DamagedToken if a call passes a task's sealed argument unsealed.

    `task` is a Celery task. Needs no key: only the shape of the token is looked at.
    """
    names = sealed_names(task.run)
    if not names:
        return
    for parameter in sealed_parameters(signature_of(task.run), names):
        value = parameter.value(args, kwargs, skipped=skipped)
        if value is not MISSING:
            Token.parse(value, where=f"{task.name}, argument {parameter.name!r}")
