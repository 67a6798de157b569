"""`setup`: the one line that wires the pools into a Celery app."""

from __future__ import annotations

import inspect
from typing import Any
from weakref import WeakSet

from celery import Celery, signals
from celery.exceptions import ImproperlyConfigured

from bufpool_workers import memory
from bufpool_workers.celery import control, environment
from bufpool_workers.celery.bootsteps import PoolStep
from bufpool_workers.celery.metrics import MetricsStep, log_totals
from bufpool_workers.celery.publishing import refuse_unsealed
from bufpool_workers.errors import SettingsError
from bufpool_workers.runtime import warmup
from bufpool_workers.runtime.counting import counting
from bufpool_workers.settings import PREFIX, Settings

_wired: WeakSet[Celery] = WeakSet()


def setup(app: Celery) -> None:
    """Give the workers of `app` warm pools, and its other processes pools with its settings.

    Only registers, and gives a worker without PROMETHEUS_MULTIPROC_DIR one of its own, before its
    tasks import prometheus_client. Settings (`bufpool_*` in `app.conf`) are read when a worker
    starts or a buffer is first asked for. Calling it again changes nothing; of several apps in one
    process the last one set up decides. Raises TypeError for what is no Celery app.
    """
    if not isinstance(app, Celery):
        raise TypeError(f"setup needs a Celery app, not {type(app).__name__}")
    if app in _wired:
        return
    _wired.add(app)
    environment.prepare()
    counting.source = lambda: read_settings(app)
    memory.configure(counting.source, prepare=counting.bind)
    memory.on_escape(counting.note_escape)
    app.steps["worker"].update((MetricsStep, PoolStep))
    refuse_unsealed(app)
    control.register()
    # a spawned child gets a copy of the app, and perhaps none of the modules that call setup; its
    # fixups come along and are called with the copy
    app.fixups = {*app.fixups, "bufpool_workers.celery.plugin:setup"}
    # one process has one set of pools, so the handlers are connected once, whatever the apps
    signals.worker_process_init.connect(_process_began, weak=False, dispatch_uid="bufpool")
    signals.worker_process_shutdown.connect(_process_ends, weak=False, dispatch_uid="bufpool")
    signals.worker_shutdown.connect(_worker_ends, weak=False, dispatch_uid="bufpool")
    signals.task_prerun.connect(_task_begins, weak=False, dispatch_uid="bufpool")
    signals.task_postrun.connect(_task_ended, weak=False, dispatch_uid="bufpool")


def is_set_up(app: Celery) -> bool:
    """Whether `setup` was called with the app."""
    return app in _wired


def read_settings(app: Celery) -> Settings:
    """Read the app's `bufpool_*` settings, with the app's namespace too (CELERY_BUFPOOL_WARM).

    Raises ImproperlyConfigured that lists everything that is wrong with them.
    """
    keys = list(app.conf)  # reads a configuration that is still pending: before, it has no prefix
    namespace = (app.conf.prefix or "").lower()
    names = {key: str(key).lower().removeprefix(namespace) for key in keys}
    conf = {name: app.conf[key] for key, name in names.items() if name.startswith(PREFIX)}
    try:
        return Settings.read(conf)
    except SettingsError as error:
        raise ImproperlyConfigured(str(error)) from error


def _process_began(**_: Any) -> None:
    warmup.ensure_pools()


def _process_ends(**_: Any) -> None:
    warmup.close_pools()


def _worker_ends(**_: Any) -> None:
    log_totals()


def _task_begins(task_id: str, task: Any, **_: Any) -> None:
    memory.begin_task(task_id, nested=bool(task.request.is_eager))


def _task_ended(task_id: str, task: Any, **_: Any) -> None:
    code = getattr(inspect.unwrap(task.run), "__code__", None)
    try:
        memory.current_pools().end_task(task_id, name=task.name, code=code)
    finally:  # a warning may be made an error
        counting.ensure_file()
    if counting.is_trim_asked():
        warmup.trim_pools()
