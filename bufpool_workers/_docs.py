"""The strings below a class's fields, which editors show, for `help` and pydoc as well."""

from __future__ import annotations

from typing import Any, TypeVar

C = TypeVar("C", bound=type[Any])


def documented(cls: C) -> C:
    """Make `inspect.getdoc`, and so `help`, find the strings below the fields of a slotted class.

    Python keeps no such string. It asks `__slots__` for one if that is a dict.
    """
    cls.__slots__ = _FieldDocs(cls)
    return cls


class _FieldDocs(dict[str, "str | None"]):
    """The slots of a class, with their docstrings: its source is read when one is asked for."""

    def __init__(self, cls: type[Any]) -> None:
        super().__init__(dict.fromkeys(cls.__slots__))
        self._cls: type[Any] | None = cls

    def __getitem__(self, name: str) -> str | None:
        if self._cls is not None:
            self.update(_read(self._cls))
            self._cls = None
        return super().__getitem__(name)


def _read(cls: type[Any]) -> dict[str, str]:
    import ast  # noqa: PLC0415 - no program needs them but one that shows help
    import inspect  # noqa: PLC0415
    from itertools import pairwise  # noqa: PLC0415

    try:
        source = inspect.getsource(cls)
    except OSError:  # there is only its bytecode
        return {}
    found = {}
    for field, below in pairwise(ast.parse(source).body[0].body):  # type: ignore[attr-defined]
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = inspect.cleandoc(text)
    return found
