"""The objects by which job systems name a task, or hold its result; none of them is imported."""

from __future__ import annotations

import inspect
from types import FunctionType, MethodType
from typing import Any

from bufpool_workers.signatures import JOB_MARK

_RQ_WAITS_SECONDS = 60  # at a time


def task_name(task: Any) -> str:
    """Return the name of a task: a task of Celery, a function of `as_job`, or the name itself.

    Raises TypeError that has the name where the object is one of another job system.
    """
    # apps and queues have a name too, and are not called
    name = task if isinstance(task, str) else callable(task) and getattr(task, "name", None)
    other = _name_elsewhere(task)
    if other is not None or not isinstance(name, str) or not name:
        hint = "" if other is None else f": pass {other!r}"
        raise TypeError(f"task must be a task or its name, got {type(task).__name__}{hint}")
    return name


def _name_elsewhere(task: Any) -> str | None:
    """Return the name that job systems other than Celery call this object by, if it is theirs."""
    # an actor of Dramatiq; a task of taskiq, which has what `as_job` made
    name = getattr(task, "actor_name", getattr(getattr(task, "original_func", None), "name", None))
    # Huey's names are those of the classes that it makes, RQ's those of functions
    named = getattr(task, "task_class", task)
    is_function = isinstance(task, FunctionType | MethodType) and not hasattr(task, JOB_MARK)
    if name is None and (named is not task or is_function):
        name = f"{named.__module__}.{named.__qualname__}"
    return name if isinstance(name, str) else None


def outcome(result: Any, *, task: str) -> tuple[str | None, Any] | None:
    """Return the id of a job and what it returned, which is waited for; None for other objects.

    `result` is an AsyncResult of Celery, a message of Dramatiq, a job of RQ, a Result of Huey; or
    the future of an executor, which has no id. Raises what the job system raises for a job that
    failed; for one of RQ, which raises nothing, RuntimeError.
    """
    if callable(getattr(result, "get_result", None)) and hasattr(result, "message_id"):
        return result.message_id, result.get_result(block=True)
    if callable(getattr(result, "latest_result", None)):
        return result.id, _returned_by_rq(result, task=task)
    if callable(get := getattr(result, "get", None)) and not isinstance(result, dict):
        waits = {"blocking": True} if "blocking" in inspect.signature(get).parameters else {}
        return getattr(result, "id", None), get(**waits)
    if callable(getattr(result, "result", None)):
        return None, result.result()
    return None


def _returned_by_rq(job: Any, *, task: str) -> Any:
    while (latest := job.latest_result(timeout=_RQ_WAITS_SECONDS)) is None:
        pass
    if latest.type != latest.Type.SUCCESSFUL:
        raise RuntimeError(f"result of {task}: the job failed; its latest_result() says why")
    return latest.return_value
