"""No message leaves a producer, or a worker, with a sealed argument that is not sealed."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

from celery import Celery
from celery.app.amqp import AMQP
from celery.backends.base import Backend
from celery.utils.functional import arity_greater

from bufpool_workers.sealing.parameters import check_value, is_any_recorded, parameters_of
from bufpool_workers.sealing.walk import Walk


class _Given(NamedTuple):
    """Arguments that a call is given: those in their order, and mappings with those by name.

    As the context of a call it is what Celery gives it besides its own.
    """

    args: tuple[Any, ...] = ()
    kwargs: tuple[Mapping[str, Any], ...] = ()

    def and_own(self, args: Any, kwargs: Any) -> _Given:
        """Add a call's own arguments; Celery itself refuses what are none."""
        own = tuple(args) if isinstance(args, Sequence | deque) else ()
        return _Given(
            self.args + own, (*self.kwargs, kwargs if isinstance(kwargs, Mapping) else {})
        )


class _Steps(NamedTuple):
    """The context of a chain's tasks: the first is given this, each later one a result."""

    first: _Given


_NOTHING: Final = _Given()
# A value that another task is yet to return can be no secret of this message.
_UNKNOWN: Final = object()
_RESULT: Final = _Given((_UNKNOWN,))
_FAILURE: Final = object()  # what Celery gives depends on the error callback
_OPTIONS: Final = {
    **dict.fromkeys(("chain", "chord", "callbacks", "link"), _RESULT),
    **dict.fromkeys(("errbacks", "link_error"), _FAILURE),
}
_STRUCTURE: Final = {"tasks", "header", "body"}
# What these call with each item of their `it`.
_ARGUMENTS_OF_ITEM: Final[Mapping[str, Callable[[Any], tuple[Any, ...]]]] = {
    "celery.map": lambda item: (item,),
    "celery.starmap": lambda item: _NOTHING.and_own(item, {}).args,
    "celery.chunks": lambda item: _NOTHING.and_own(item, {}).args,
}


class SealCheckingAMQP(AMQP):  # type: ignore[misc]  # Celery ships no types
    """Celery's maker of messages, which checks each call before it becomes one."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        add_check(self)


def add_check(amqp: AMQP) -> None:
    """Check every message that a maker of messages makes, and all calls that it carries."""
    for version, protocol in amqp.task_protocols.items():
        amqp.task_protocols[version] = _checking(amqp.app, protocol)


def check_schedule(app: Celery) -> None:
    """Raise NotSealed or DamagedToken for an entry of Celery's own schedule with a plain secret.

    `celery beat` writes the entries to a file when it starts; each is checked again when it is due.
    """
    for name, entry in app.conf.beat_schedule.items():
        _MessageCheck(app, f"beat_schedule {name!r}").look({"args": (), **entry})


def _checking(app: Celery, protocol: Callable[..., Any]) -> Callable[..., Any]:
    names = list(inspect.signature(protocol).parameters)

    @functools.wraps(protocol)
    def message(*args: Any, **kwargs: Any) -> Any:
        if not is_any_recorded():
            return protocol(*args, **kwargs)
        # Celery passes most of these by position
        options = dict(zip(names, args, strict=False)) | kwargs
        call = {key: options.pop(key, None) for key in ("args", "kwargs")}
        call |= {"task": options["name"], "options": options}
        call = _MessageCheck(app, options["name"]).look(call)
        return protocol(args=call["args"], kwargs=call["kwargs"], **call["options"])

    return message


class _MessageCheck(Walk):
    """Checks each call in a message: a mapping whose `task` is a name, with `args` or `kwargs`.

    The context of a call is what Celery gives it besides its own arguments: a `_Given`, or
    `_FAILURE`. That of its arguments by name and of its options is a mapping of such contexts.
    """

    def __init__(self, app: Celery, name: str) -> None:
        super().__init__(name)
        self._app = app
        # app.tasks finalizes the app, so that tasks which were not used yet are found too
        finalizes = app.finalized or app.autofinalize
        self._tasks = app.tasks if finalizes else app._tasks  # noqa: SLF001 - see above

    def item_contexts(self, context: Any) -> Iterator[Any]:
        """Yield the context of each item of a sequence."""
        if isinstance(context, _Steps):
            return chain((context.first,), repeat(_RESULT))
        return repeat(context)

    def look_at_mapping(self, mapping: Mapping[Any, Any], context: Any) -> Any:
        """Look at what a mapping holds, and check it if it is a call."""
        contexts = context if isinstance(context, dict) else {}
        name = mapping.get("task")
        if not isinstance(name, str) or mapping.keys().isdisjoint({"args", "kwargs"}):
            return self.look_at_values(mapping, contexts)
        # such as the body that chord_unlock calls
        among_args = _RESULT if _is_other_builtin(name) else None
        args = self.look(mapping.get("args"), among_args)
        given = self._given(mapping, context).and_own(args, mapping.get("kwargs"))
        inside = {"args": among_args, "kwargs": _inside(name, given), "options": _OPTIONS}
        looked = self.look_at_values(mapping, contexts | inside)
        self._check(name, given)
        if name in _ARGUMENTS_OF_ITEM:
            self._check_items(name, given)
        return looked

    def _given(self, call: Mapping[str, Any], context: Any) -> _Given:
        if call.get("immutable"):
            return _NOTHING
        if context is _FAILURE:
            return self._given_at_failure(call)
        return context if isinstance(context, _Given) else _NOTHING

    def _given_at_failure(self, call: Mapping[str, Any]) -> _Given:
        """Ask Celery what it calls this error callback with.

        That is the failed task's id, or with a function that takes more than one argument the
        failed request, its error and its traceback.
        """
        header = getattr(self._tasks.get(call["task"]), "__header__", None)
        if header is None or isinstance(header, partial):
            return _RESULT
        if hasattr(Backend, "_errback_arity_greater"):  # since 5.7 it counts stored arguments
            signature = self._app.signature(dict(call))
            takes_more = Backend._errback_arity_greater(None, signature, 1)  # noqa: SLF001 - see above
        else:
            takes_more = arity_greater(header, 1)
        return _Given((_UNKNOWN,) * 3) if takes_more else _RESULT

    def _check(self, name: Any, given: _Given) -> None:
        """Raise NotSealed or DamagedToken for a sealed parameter that is given something else."""
        task = self._tasks.get(name)
        for parameter in parameters_of(task) if task is not None else ():
            values = [kwargs[parameter.name] for kwargs in given.kwargs if parameter.name in kwargs]
            if parameter.position is not None:
                values += given.args[parameter.position :][:1]
            for value in values:
                if value is not _UNKNOWN:
                    check_value(value, task=name, parameter=parameter)

    def _check_items(self, name: str, given: _Given) -> None:
        kwargs = dict(zip(("task", "it"), given.args, strict=False), **given.kwargs[-1])
        called = kwargs.get("task")
        if isinstance(called, Mapping):
            called = called.get("task")
        for item in kwargs.get("it") or ():
            self._check(called, _Given(_ARGUMENTS_OF_ITEM[name](item)))


def _is_other_builtin(name: str) -> bool:
    """Return whether it is a task of Celery's own that is not known here."""
    composites = {"celery.chain", "celery.group", "celery.chord", *_ARGUMENTS_OF_ITEM}
    return name.startswith("celery.") and name not in composites


def _inside(name: str, given: _Given) -> Mapping[str, Any]:
    """Return the context of each argument by name that holds the parts of a composite."""
    *others, own = given.kwargs
    passed = _Given(
        given.args,
        (*others, {key: own[key] for key in own.keys() - _STRUCTURE}, own.get("kwargs") or {}),
    )
    if name == "celery.chain":
        return {"tasks": _Steps(passed)}
    if name == "celery.group":
        return {"tasks": passed}
    if name == "celery.chord":
        return {"header": passed, "body": _RESULT}
    if _is_other_builtin(name):
        return dict.fromkeys(own, _RESULT)
    return {}
