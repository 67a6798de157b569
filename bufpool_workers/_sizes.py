"""Sizes of `pooled_buffer`: constants, and functions of a task's arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from bufpool_workers._asking import asking, parameters_of
from bufpool_workers.signatures import name_of
from bufpool_workers.units import parse_size

Size = int | str | Callable[..., int | str]


def check_size(size: Size) -> None:
    """Raise TypeError or ValueError for what is no size, and no function of one."""
    if callable(size):
        if hasattr(size, "apply_async") or "buf" in (parameters_of(size) or ()):
            raise TypeError("pooled_buffer needs a size: @pooled_buffer(64 * KiB)")
    elif parse_size(size) < 0:
        raise ValueError(f"pooled_buffer: size must not be negative, got {size}")


def size_of_call(
    size: Size, shown: inspect.Signature, function: Callable[..., Any]
) -> int | Callable[..., int | str]:
    """Return the size, or a function with the task's parameters that asks the size function.

    Raises TypeError if that wants parameters which the task does not have.
    """
    if not callable(size):
        return parse_size(size)
    checked = functools.partial(_checked_size, name_of(function))
    whose = "pooled_buffer: the size function"
    return asking(size, shown, function, whose=whose, checked=checked)


def _checked_size(name: str, given: Any) -> int | str:
    """Return what a size function gave; raise TypeError if it is no size."""
    if isinstance(given, bool) or not (isinstance(given, str) or hasattr(given, "__index__")):
        raise TypeError(
            f"pooled_buffer: the size function of {name} gave {type(given).__name__}, not an int "
            'or text such as "64KiB"'
        )
    return given  # type: ignore[no-any-return]  # an int, or what stands for one
