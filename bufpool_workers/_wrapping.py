"""Wrappers that are compiled for the function that they wrap.

A wrapper that takes `*args, **kwargs` packs and unpacks them at each call, and has to bind them to
learn one argument. One that has the function's own parameters costs nothing but its call, refuses
wrong arguments by itself, and knows each argument by its name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

from bufpool_workers.signatures import code_of, is_async, name_of, unwrapped

_KIND = inspect.Parameter
_PASSED = {
    _KIND.POSITIONAL_ONLY: "{0}",
    _KIND.POSITIONAL_OR_KEYWORD: "{0}",
    _KIND.VAR_POSITIONAL: "*{0}",
    _KIND.KEYWORD_ONLY: "{0}={0}",
    _KIND.VAR_KEYWORD: "**{0}",
}
_MARK = "__bufpool_wraps__"  # functools.wraps carries it up through other decorators


class Form(NamedTuple):
    """The source of a function's parameters, as in `(path, *, deep=None)`, and of passing them on.

    Each parameter that is passed on ends with a comma.
    """

    taken: str
    passed: str
    signature: inspect.Signature


def form_of(signature: inspect.Signature) -> Form:
    """Return the form of a function with this signature; its defaults are set when it is made."""
    bare = [
        p.replace(annotation=p.empty, default=p.default if p.default is p.empty else None)
        for p in signature.parameters.values()
    ]
    passed = "".join(_PASSED[p.kind].format(p.name) + ", " for p in bare)
    return Form(str(inspect.Signature(bare)), passed, signature)


ANYTHING: Final = form_of(
    inspect.Signature([_KIND("args", _KIND.VAR_POSITIONAL), _KIND("kwargs", _KIND.VAR_KEYWORD)])
)
"""Of a wrapper that passes calls on as they come."""


def form_around(function: Callable[..., Any], shown: inspect.Signature, *hidden: str) -> Form:
    """Return the form of a wrapper of `function`, whose signature is `shown` and what it hides.

    Where another library's wrapper shows the signature of what it wraps, calls are passed on to it
    as they come.
    """
    names = [*shown.parameters, *hidden]
    kinds: list[Any] = [p.kind for p in shown.parameters.values()]
    kinds += [_KIND.KEYWORD_ONLY] * len(hidden)
    code = getattr(function, "__code__", None)
    is_own = isinstance(code, CodeType) and _of_code(code) == set(zip(names, kinds, strict=True))
    return form_of(shown) if is_own else ANYTHING


def _of_code(code: CodeType) -> set[tuple[str, Any]]:
    """Return name and kind of each parameter that code takes itself."""
    positional, only = code.co_argcount, code.co_posonlyargcount
    kinds: list[Any] = [_KIND.POSITIONAL_ONLY] * only
    kinds += [_KIND.POSITIONAL_OR_KEYWORD] * (positional - only)
    kinds += [_KIND.KEYWORD_ONLY] * code.co_kwonlyargcount
    kinds += [_KIND.VAR_POSITIONAL] * bool(code.co_flags & inspect.CO_VARARGS)
    kinds += [_KIND.VAR_KEYWORD] * bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return set(zip(code.co_varnames, kinds, strict=False))


def compile_function(source: str, form: Form, names: Mapping[str, Any]) -> FunctionType:
    """Return the function `call` that `source` defines, with the parameters of `form`.

    `names` are what its body uses. They begin with an underscore and `bufpool_`, so that no
    parameter of a user's hides one.
    """
    lines = "".join(f"    {line}\n" for line in source.splitlines())
    text = f"def make({', '.join(names)}):\n{lines}    return call\n"
    space: dict[str, Any] = {"__name__": __name__}
    exec(compile(text, f"<{__name__}>", "exec"), space)  # noqa: S102 - of signatures, not of data
    function: FunctionType = space["make"](**names)
    defaults = {
        p.name: p.default for p in form.signature.parameters.values() if p.default is not p.empty
    }
    only = function.__kwdefaults__ or {}
    function.__defaults__ = tuple(v for n, v in defaults.items() if n not in only) or None
    function.__kwdefaults__ = {n: defaults[n] for n in only} or None
    return function


def wrap(
    function: Callable[..., Any],
    template: str,
    *,
    form: Form,
    names: Mapping[str, Any],
    shown: inspect.Signature | None = None,
    **parts: object,
) -> FunctionType:
    """Return a wrapper of a function, which passes for it as with `functools.wraps`.

    `template` is formatted with `form`, the `parts`, and what stands around a call of
    `_bufpool_function`; it may use `names`, and `_bufpool_blame`, the function's code. `shown` is
    the wrapper's signature where that is another one; `inspect.signature` and Celery read it.
    """
    names = {
        "_bufpool_function": function,
        "_bufpool_finished": functools.partial(_finished, name_of(function)),
        "_bufpool_blame": code_of(function),
        **names,
    }
    source = template.format(form=form, **_calling(function), **parts)
    wrapper = compile_function(source, form, names)
    wrapper.__name__ = name_of(function).rpartition(".")[2]
    wrapper.__qualname__ = name_of(function)
    functools.update_wrapper(wrapper, function)
    setattr(wrapper, _MARK, True)
    if shown is not None:
        wrapper.__signature__ = shown  # type: ignore[attr-defined]
    return wrapper


def is_dressed(function: object) -> bool:
    """Return whether a function is a wrapper of ours, or one around it."""
    return getattr(function, _MARK, False) is True  # a mock has every attribute


def _calling(function: Callable[..., Any]) -> dict[str, str]:
    """Return the source of what stands around a call of the function."""
    if is_async(function):
        return {"define": "async def", "begin": "await ", "end": ""}
    if is_async(unwrapped(function)):  # another library's wrapper awaits it, or does not
        return {"define": "def", "begin": "_bufpool_finished(", "end": ")"}
    return {"define": "def", "begin": "", "end": ""}


def _finished(name: str, result: Any) -> Any:
    """Return the result of a call; raise TypeError if it has only begun."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            f"{name}: the decorator below returns a coroutine, which would run after its buffers "
            "were given back: put it above, or make its wrapper a coroutine function"
        )
    return result
