"""Frozen classes of named fields: dataclasses whose methods are not compiled for each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from bufpool_workers._docs import documented

__all__ = ["record_class"]

_set: Final = object.__setattr__


class _Signature:
    """The signature of a class, made when `inspect` asks for it."""

    def __get__(self, instance: object, cls: type[Any]) -> Any:
        from inspect import Parameter, Signature  # noqa: PLC0415 - no program needs it to run

        return Signature(
            [
                Parameter(f.name, Parameter.KEYWORD_ONLY, default=_default(f), annotation=f.type)
                for f in fields(cls)
            ]
        )


def _default(field: Any) -> Any:
    from inspect import Parameter  # noqa: PLC0415 - as above

    if field.default_factory is not MISSING:
        return field.default_factory()
    return Parameter.empty if field.default is MISSING else field.default


class _Methods:
    """What all classes of records have in common; each gets them as its own."""

    __signature__ = _Signature()
    __dataclass_fields__: dict[str, Any]
    _defaults: dict[str, Any]
    _factories: tuple[tuple[str, Any], ...]

    def __init__(self, /, **given: Any) -> None:
        if len(given) < len(self.__dataclass_fields__):
            made = {name: make() for name, make in self._factories if name not in given}
            given = {**self._defaults, **made, **given}
        if given.keys() != self.__dataclass_fields__.keys():
            wrong = sorted(given.keys() ^ self.__dataclass_fields__.keys())
            raise TypeError(f"{type(self).__name__}: missing or unknown: {', '.join(wrong)}")
        for name, value in given.items():
            _set(self, name, value)

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        for name, value in state[1].items():
            _set(self, name, value)


def _values(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in record.__dataclass_fields__)


_METHODS: Final = {
    name: method
    for name, method in vars(_Methods).items()
    if method.__class__ in {FunctionType, _Signature}
}


def _record_class(*, frozen: bool, kw_only: bool, slots: bool) -> Callable[[type[Any]], Any]:  # noqa: ARG001 - for the reader
    """Make a dataclass of these three kinds, to `fields`, `replace` and `asdict` too.

    It takes a tenth of the time of `dataclass`, which compiles six functions for each class: every
    process that imports this package pays for it.
    """

    def make(cls: type[Any]) -> Any:
        for name, method in _METHODS.items():
            setattr(cls, name, method)
        made: Any = dataclass(init=False, repr=False, eq=False, kw_only=True, slots=True)(cls)
        made._defaults = {f.name: f.default for f in fields(made) if f.default is not MISSING}  # noqa: SLF001
        made._factories = tuple(  # noqa: SLF001
            (f.name, f.default_factory) for f in fields(made) if f.default_factory is not MISSING
        )
        return documented(made)

    return make


if TYPE_CHECKING:
    from dataclasses import dataclass as record_class
else:
    record_class = _record_class
