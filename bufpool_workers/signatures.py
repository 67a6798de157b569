"""Signatures of users' functions, on every Python."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, Final

BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
"""The kinds of parameters that a call can give by keyword."""

if sys.version_info >= (3, 14):
    from annotationlib import Format

    def signature_of(function: Callable[..., Any]) -> inspect.Signature:
        """Return it without evaluating annotations, whose names need not exist at run time."""
        return inspect.signature(function, annotation_format=Format.FORWARDREF)

else:

    def signature_of(function: Callable[..., Any]) -> inspect.Signature:
        """Return it with the annotations as they are: evaluated already, or text."""
        return inspect.signature(function)
