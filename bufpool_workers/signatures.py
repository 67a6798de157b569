"""Signatures of users' functions, on every Python."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, Final

BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
"""The kinds of parameters that a call can give by keyword."""

JOB_MARK: Final = "__bufpool_job__"
"""An attribute of what `as_job` makes; functools.wraps carries it up through other decorators."""

if sys.version_info >= (3, 14):
    from annotationlib import Format

    def signature_of(function: Callable[..., Any]) -> inspect.Signature:
        """Return the signature; names in annotations need not exist at run time."""
        return inspect.signature(function, annotation_format=Format.FORWARDREF)

else:

    def signature_of(function: Callable[..., Any]) -> inspect.Signature:
        """Return the signature; its annotations are evaluated already, or text."""
        return inspect.signature(function)


def name_of(function: Callable[..., Any]) -> str:
    """Return the qualified name of a function, or of the type of what has none."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__name__


def unwrapped(function: Any) -> Callable[..., Any]:
    """Return the user's own function of one, or of a bound method, that decorators wrap."""
    inner: Callable[..., Any] = inspect.unwrap(getattr(function, "__func__", function))
    return inner


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calls of a function are awaited; compiled functions and objects count too."""
    return any(
        inspect.iscoroutinefunction(each) or bool(getattr(each, "_is_coroutine", False))
        for each in (function, None if inspect.isclass(function) else _call_of(function))
    )


def _call_of(function: Callable[..., Any]) -> Any:
    return None if isinstance(function, FunctionType) else getattr(function, "__call__", None)  # noqa: B004


def hidden_signature(
    function: Callable[..., Any], name: str, *, decorator: str
) -> inspect.Signature:
    """Return the signature of `function` without the keyword-only parameter that is injected.

    Raises TypeError, in the name of `decorator`, where a buffer can't be injected.
    """
    check_function(function, decorator=decorator)
    signature = signature_of(function)
    parameter = signature.parameters.get(name)
    if parameter is None or parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        called = name_of(function)
        raise TypeError(
            f"{decorator}: {called} needs a keyword-only parameter {name!r}, as in "
            f"def {called.rpartition('.')[2]}(..., *, {name})"
        )
    kept = [p for p in signature.parameters.values() if p.name != name]
    return signature.replace(parameters=kept)


def check_function(function: Callable[..., Any], *, decorator: str) -> None:
    """Raise TypeError for what can't be decorated; compiled functions and objects can."""
    check_is_no_task(function, decorator=decorator)
    if getattr(function, JOB_MARK, False) is True:  # a mock has every attribute
        raise TypeError(f"{decorator} stands below as_job, not above it")
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"{decorator} is for functions, not {type(function).__name__}")
    try:
        signature_of(function)
    except (TypeError, ValueError):
        raise TypeError(
            f"{decorator}: {name_of(function)} has no signature that names its parameters"
        ) from None
    inner = unwrapped(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"{decorator}: {name_of(function)} is a generator function, which runs after its "
            "buffer was given back"
        )


def check_is_no_task(function: object, *, decorator: str) -> None:
    """Raise TypeError for what the decorator of a job system makes."""
    if hasattr(function, "apply_async"):  # a task, or Celery's promise of one
        raise TypeError(f"{decorator} stands below @app.task, not above it")
    # an actor of Dramatiq, a task of Huey, one of taskiq
    if any(hasattr(function, name) for name in ("actor_name", "task_class", "original_func")):
        made = type(function).__name__
        raise TypeError(
            f"{decorator} stands below the decorator that makes the {made}, not above it"
        )


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """Return the code of the user's own function; None where it has none."""
    code = getattr(unwrapped(function), "__code__", None)
    return code if isinstance(code, CodeType) else None
