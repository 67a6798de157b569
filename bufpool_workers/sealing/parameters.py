"""Which parameters of a task are sealed, and where a call has them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bufpool_workers.sealing.token import Token
from bufpool_workers.signatures import BY_NAME, signature_of, unwrapped

MISSING = inspect.Parameter.empty

_RECORD = "__bufpool_sealed__"  # functools.wraps carries it up through other decorators
_RESULT_RECORD = "__bufpool_seals_result__"
_is_any_recorded = False


class SealedParameter(NamedTuple):
    """A parameter that takes a token, with its position where it can be given by position."""

    name: str
    position: int | None
    default: Any

    def value(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return what a call passes for it; MISSING for nothing, or for the parameter's default."""
        value = MISSING
        if self.name in kwargs:
            value = kwargs[self.name]
        elif self.position is not None and self.position < len(args):
            value = args[self.position]
        return MISSING if self.is_default(value) else value

    def is_default(self, value: Any) -> bool:
        """Return whether the value is the default, which may have come through a broker."""
        alike = type(value) is type(self.default) and isinstance(value, str | int | float)
        return value is self.default or (alike and bool(value == self.default))


def record(function: Callable[..., Any], parameters: Sequence[SealedParameter]) -> None:
    """Note a function's sealed parameters, after those noted on the function that it wraps.

    Positions are those of the user's own function, as they were when it was decorated: what other
    libraries wrap around it later may show another signature.
    """
    global _is_any_recorded  # noqa: PLW0603 - whether a process has anything to check
    _is_any_recorded = True
    setattr(function, _RECORD, (*recorded(function), *parameters))


def record_result(function: Callable[..., Any]) -> None:
    """Note that a function's result is sealed."""
    setattr(function, _RESULT_RECORD, True)


def seals_result(function: object) -> bool:
    """Return whether a function's result is sealed."""
    return getattr(function, _RESULT_RECORD, False)


def is_any_recorded() -> bool:
    """Return whether any function of this process has sealed parameters."""
    return _is_any_recorded


def recorded(function: object) -> tuple[SealedParameter, ...]:
    """Return the sealed parameters noted on a function; a method's count its `self`."""
    found: tuple[SealedParameter, ...] = getattr(function, _RECORD, ())
    return found


def sealed_names(function: object) -> tuple[str, ...]:
    """Return the names of a function's sealed parameters."""
    return tuple(parameter.name for parameter in recorded(function))


def called_parameters(function: Any) -> tuple[SealedParameter, ...]:
    """Return the sealed parameters of a function or a bound method, as its callers count them."""
    found = recorded(getattr(function, "__func__", function))
    return tuple(map(_without_self, found)) if hasattr(function, "__self__") else found


def sealed_parameters(
    signature: inspect.Signature, names: Sequence[str]
) -> tuple[SealedParameter, ...]:
    """Find parameters by name; ValueError for a name that can't be given by keyword."""
    found = []
    for name in names:
        parameter = signature.parameters.get(name)
        if parameter is None or parameter.kind not in BY_NAME:
            raise ValueError(f"no parameter {name!r}")
        found.append(SealedParameter(name, _position(signature, name), parameter.default))
    return tuple(found)


def _position(signature: inspect.Signature, name: str) -> int | None:
    if signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY:
        return None
    return list(signature.parameters).index(name)


def runs_of(task: Any) -> list[Any]:
    """Return the `run` of a Celery task as its class and their bases define it, the own one first.

    The instance's own `run` is another one where `autoretry_for` or a monitoring agent has
    replaced it.
    """
    return [vars(cls)["run"] for cls in task.__class__.__mro__ if "run" in vars(cls)]


def parameters_of(task: Any) -> tuple[SealedParameter, ...]:
    """Return the sealed parameters of a Celery task, with positions as its callers count them.

    A subclass that overrides a sealed `run` without sealing it is as sealed as what it overrides.
    """
    runs = runs_of(task)
    for run in runs:
        if found := recorded(getattr(run, "__func__", run)):
            if run is not runs[0]:
                found = _placed_as_in(runs[0], found)
            return found if isinstance(runs[0], staticmethod) else tuple(map(_without_self, found))
    return ()


def user_function(task: Any) -> Callable[..., Any] | None:
    """Return the function that a Celery task runs in the end: the sealed one, if there is one.

    A sealed one has sealed parameters or a sealed result.
    """
    functions = [getattr(run, "__func__", run) for run in runs_of(task)]
    if not functions:
        return None
    sealed = (function for function in functions if recorded(function) or seals_result(function))
    return unwrapped(next(sealed, functions[0]))


def _placed_as_in(run: Any, parameters: Sequence[SealedParameter]) -> tuple[SealedParameter, ...]:
    """Return the parameters with the positions that an overriding `run` gives them."""
    signature = signature_of(getattr(run, "__func__", run))
    return tuple(
        parameter._replace(position=_position(signature, parameter.name))
        if parameter.name in signature.parameters
        else parameter
        for parameter in parameters
    )


def _without_self(parameter: SealedParameter) -> SealedParameter:
    if parameter.position is None:
        return parameter
    return parameter._replace(position=parameter.position - 1)


def check_value(value: object, *, task: str, parameter: SealedParameter) -> None:
    """Raise NotSealed or DamagedToken if a call passes something other than a token.

    Needs no key: only the shape of the token is looked at. The parameter's default passes.
    """
    if not parameter.is_default(value):
        Token.parse(value, where=f"{task}, argument {parameter.name!r}")
