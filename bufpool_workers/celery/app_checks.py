"""The app: its settings, tasks and what it does before `setup`."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery import Celery

from bufpool_workers._wrapping import is_dressed
from bufpool_workers.celery.coroutines import check_coroutines
from bufpool_workers.celery.plugin import is_set_up
from bufpool_workers.console.key_checks import check_keys
from bufpool_workers.diagnostics.capacity import check_budget, check_memory, check_recycling
from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.limits import Process, machine_bytes, peak_bytes
from bufpool_workers.sealing.parameters import parameters_of, sealed_names
from bufpool_workers.settings import Settings

logger = logging.getLogger(__name__)

_DEEPEST = 20  # decorators on a task


def check_app(
    app: Celery, settings: Settings, *, process: Process, processes: int = 0
) -> Iterator[Finding]:
    """Look at the app, for a worker that has `process`'s limits and arguments.

    `processes` is how many processes of it have been seen; 0 for none.
    """
    if not is_set_up(app):
        names = (
            ", ".join(decorated_tasks(app)) if "bufpool_workers.decorators" in sys.modules else ""
        )
        yield Finding(
            "error",
            "setup",
            "bufpool_workers.setup was not called with the app"
            + (f", whose tasks use it ({names})" if names else "")
            + ": its workers pool nothing",
            "give the app with -A, and call bufpool_workers.setup(app) where it is made",
        )
        return
    yield check_budget(settings, alive_seconds=app.conf.worker_proc_alive_timeout)
    yield check_recycling(
        settings,
        limit_bytes=(app.conf.worker_max_memory_per_child or 0) * 1024,
        used_bytes=peak_bytes(),
    )
    yield check_memory(
        settings,
        processes=processes or concurrency(app),
        limit=process.memory_limit_bytes,
        machine=machine_bytes(),
    )
    yield from check_keys(settings)
    try:
        app.loader.import_default_modules()
    except Exception as error:  # noqa: BLE001 - whatever the user's modules raise, it is found
        yield Finding(
            "error",
            "tasks",
            f"the task modules can't be imported: {type(error).__name__}: {error}",
            "a decorator of this package stands below @app.task, never above it",
        )
        return
    tasks = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
    yield from check_decorators(tasks)
    yield from check_coroutines(app)
    yield from check_sealed(app, tasks, settings, process=process)


def decorated_tasks(app: Celery) -> list[str]:
    """Return the names of the app's tasks that have a decorator of this package."""
    return sorted(
        name for name, task in app.tasks.items() if any(map(is_dressed, _functions(task.run)))
    )


def warn_without_setup(app: Celery) -> None:
    """Log an error if tasks of a worker's app use this package, which `setup` was not called with.

    Without it nothing else would show it: the decorators work, with default pools in each process.
    """
    names = [] if is_set_up(app) else decorated_tasks(app)
    if names:
        logger.error(
            "bufpool: bufpool_workers.setup was not called with the app %r, whose tasks use it "
            "(%s): nothing is warm before the first task, nothing is scraped, and sealed arguments "
            "are neither opened nor checked; call bufpool_workers.setup(app) where the app is made",
            app.main,
            ", ".join(names),
        )


def concurrency(app: Celery) -> int:
    """Return the number of processes that a worker of the app starts by default."""
    return int(app.conf.worker_concurrency or os.cpu_count() or 1)


def check_decorators(tasks: Mapping[str, Any]) -> Iterator[Finding]:
    """Find tasks whose outer decorators hide ours: those that don't use functools.wraps."""
    for name, task in sorted(tasks.items()):
        inner = [f for f in _functions(task.run) if sealed_names(f)]
        if inner and not parameters_of(task):
            yield Finding(
                "error",
                "decorators",
                f"task {name}: a decorator above @sealed hides that "
                f"{', '.join(sealed_names(inner[0]))} must be sealed: unsealed calls are published",
                "put @sealed directly below @app.task, or use functools.wraps in that decorator",
            )


def check_sealed(
    app: Celery, tasks: Mapping[str, Any], settings: Settings, *, process: Process
) -> Iterator[Finding]:
    """Check that results and logs don't show sealed arguments needlessly."""
    names = sorted(name for name, task in tasks.items() if parameters_of(task))
    if not names:
        return
    shown = ", ".join(names)
    if not settings.private_keys:
        yield Finding(
            "error",
            "keys",
            f"{shown}: sealed arguments, and no bufpool_private_keys to open them with",
            "make a key with `celery bufpool keygen`, and name its file to the workers",
        )
    if app.conf.result_extended:
        yield Finding(
            "warning",
            "result_extended",
            f"{shown}: result_extended keeps sealed tokens as long as results; who reads them may "
            "replay them",
            "set result_extended = False, or seal with expires= and single_use=True",
        )
    if logs_debug(process):
        yield Finding(
            "warning",
            "logging",
            f"{shown}: at level DEBUG Celery logs the arguments of every task: sealed tokens, "
            "which may be replayed, and whatever else is secret in plain arguments",
            "log at INFO",
        )


def logs_debug(process: Process) -> bool:
    """Return True if the process logs at DEBUG: by its arguments, or as this one is set up."""
    text = " ".join(process.arguments).upper()
    by_arguments = any(
        option in text for option in ("--LOGLEVEL=DEBUG", "--LOGLEVEL DEBUG", "-L DEBUG")
    )
    return by_arguments or any(
        logging.getLogger(name).level == logging.DEBUG for name in ("", "celery")
    )


def _functions(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Walk what a decorated function calls in the end: what it wraps, or closes over."""
    seen: list[Any] = []
    waiting = [function]
    while waiting and len(seen) < _DEEPEST:
        current = inspect.unwrap(waiting.pop(0), stop=is_dressed)
        if isinstance(current, functools.partial):
            current = current.func
        if any(current is each for each in seen):
            continue
        seen.append(current)
        yield current
        cells = getattr(getattr(current, "__func__", current), "__closure__", None) or ()
        waiting += [value for cell in cells if callable(value := _content(cell))]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
