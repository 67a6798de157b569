"""No message leaves a producer, or a worker, with a sealed argument that is not sealed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery import Celery

from bufpool_workers.errors import SealError
from bufpool_workers.sealing.arguments import check_call

# What the next task of a chain, a chord's body or a callback gets before its own arguments.
_RESULT = 1
# Celery calls an error callback with the failed task's id, or with request, error and traceback.
_FAILURE = (1, 3)


def refuse_unsealed(app: Celery) -> None:
    """Check every message that `app` makes, from the moment that its tasks are known.

    The check sits where Celery makes a message of a call: behind it are delay, apply_async,
    send_task, canvases, retries and beat alike. Signals would not do, they swallow exceptions.
    """
    if app.finalized:
        _guard(app)
    else:
        app.on_after_finalize.connect(_finalized, weak=False, dispatch_uid=("bufpool", id(app)))


def _finalized(sender: Celery, **_: Any) -> None:
    _guard(sender)


def _guard(app: Celery) -> None:
    protocols = app.amqp.task_protocols
    for version, protocol in protocols.items():
        protocols[version] = _guarded(app, protocol)


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
    args = signature.get("args") or ()
    kwargs = signature.get("kwargs") or {}
    options = signature.get("options") or {}
    if signature.get("immutable"):
        skipped = 0
    task = app.tasks.get(name)
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


def _check_all(app: Celery, value: Any, *, skipped: int) -> None:
    for signature in _signatures(value):
        _check(app, signature, skipped=skipped)


def _check_map(app: Celery, kwargs: Mapping[str, Any], *, starred: bool) -> None:
    task = app.tasks.get((kwargs.get("task") or {}).get("task"))
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
