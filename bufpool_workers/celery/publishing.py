"""No message leaves a producer, or a worker, with a sealed argument that is not sealed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP

from bufpool_workers.errors import SealError
from bufpool_workers.sealing.parameters import check_call

# What the next task of a chain, a chord's body or a callback gets before its own arguments.
_RESULT = 1
# Celery calls an error callback with the failed task's id, or with request, error and traceback.
_FAILURE = (1, 3)

_STOCK = "celery.app.amqp:AMQP"
_GUARDED = "bufpool_workers.celery.publishing:GuardedAMQP"


class GuardedAMQP(AMQP):  # type: ignore[misc]  # Celery ships no types
    """Celery's maker of messages, which checks each call before it becomes one."""

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        _guard(self)


def refuse_unsealed(app: Celery) -> None:
    """Check every call that `app` makes a message of, and the calls that travel with it.

    The check sits where Celery makes a message of a call: behind it are delay, apply_async,
    send_task, canvases, retries and beat alike. Signals would not do, they swallow exceptions.
    """
    if app.amqp_cls == _STOCK and "amqp" not in vars(app):
        # by name, since a spawned child gets the app pickled
        app.amqp_cls = _GUARDED
    elif app.amqp_cls != _GUARDED:
        _guard(app.amqp)


def _guard(amqp: AMQP) -> None:
    for version, protocol in amqp.task_protocols.items():
        amqp.task_protocols[version] = _guarded(amqp.app, protocol)


def _guarded(app: Celery, protocol: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(protocol)

    @functools.wraps(protocol)
    def message(*args: Any, **kwargs: Any) -> Any:
        # Celery passes most of these by position
        options = signature.bind(*args, **kwargs).arguments
        call = {key: options.pop(key, None) for key in ("args", "kwargs")}
        _check(app, call | {"task": options["name"], "options": options}, skipped=0)
        return protocol(*args, **kwargs)

    return message


def _check(app: Celery, signature: Mapping[str, Any], *, skipped: int) -> None:
    """Check a call, and the calls that travel with it, which are published in its message."""
    name = signature.get("task")
    # what is no list, tuple or mapping here, Celery refuses itself
    args = args if isinstance(args := signature.get("args"), list | tuple) else ()
    kwargs = kwargs if isinstance(kwargs := signature.get("kwargs"), Mapping) else {}
    options = signature.get("options") or {}
    if signature.get("immutable"):
        skipped = 0
    task = _task(app, name)
    if task is not None:
        check_call(task, args, kwargs, skipped=skipped)
    if name == "celery.chain":
        first, *later = kwargs.get("tasks") or (None,)
        _check_all(app, first, skipped=skipped)
        _check_all(app, later, skipped=_RESULT)
    elif name in {"celery.map", "celery.starmap"}:
        _check_map(app, kwargs, starred=name == "celery.starmap")
    elif str(name).startswith("celery."):
        _check_all(app, (kwargs.get("tasks"), kwargs.get("header")), skipped=skipped)
        _check_all(app, (kwargs.get("body"), kwargs.get("callback"), args), skipped=_RESULT)
    for key in ("chain", "chord", "callbacks", "link"):
        _check_all(app, options.get(key), skipped=_RESULT)
    for key in ("errbacks", "link_error"):
        _check_error_callbacks(app, options.get(key))


def _task(app: Celery, name: Any) -> Any:
    # app.tasks finalizes the app, so that tasks which nobody has used yet are found too
    registry = app.tasks if app.finalized or app.autofinalize else app._tasks  # noqa: SLF001
    return registry.get(name)


def _check_all(app: Celery, value: Any, *, skipped: int) -> None:
    for signature in _signatures(value):
        _check(app, signature, skipped=skipped)


def _check_map(app: Celery, kwargs: Mapping[str, Any], *, starred: bool) -> None:
    task = _task(app, (kwargs.get("task") or {}).get("task"))
    if task is not None:
        for item in kwargs.get("it") or ():
            check_call(task, item if starred else (item,), {})


def _check_error_callbacks(app: Celery, value: Any) -> None:
    for signature in _signatures(value):
        try:
            _check(app, signature, skipped=_FAILURE[0])
        except SealError:
            _check(app, signature, skipped=_FAILURE[1])


def _signatures(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if "task" in value:
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _signatures(item)
