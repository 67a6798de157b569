"""`setup`: the one line that wires the pools into a Celery app."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

from celery import Celery, current_task, signals, uuid
from celery.exceptions import ImproperlyConfigured

import bufpool_workers
from bufpool_workers.celery.environment import environment
from bufpool_workers.errors import SealError, SettingsError
from bufpool_workers.runtime import Job, current_job, current_runtime
from bufpool_workers.runtime.job import REPLY_HEADER, Reply
from bufpool_workers.sealing.parameters import user_function
from bufpool_workers.settings import PACKAGE, Settings

_HERE = "bufpool_workers.celery"
# by name: only workers import them
_STEPS = (f"{_HERE}.bootsteps:MetricsStep", f"{_HERE}.bootsteps:PoolStep")
_STOCK_AMQP = "celery.app.amqp:AMQP"
_CHECKING_AMQP = f"{_HERE}.publishing:SealCheckingAMQP"

# of each class of tasks, since looking for it costs as much as all the rest at a task's start
_functions: WeakKeyDictionary[type, Callable[..., Any] | None] = WeakKeyDictionary()


class CeleryHost:
    """A Celery app as a host of this process's runtime."""

    def __init__(self, app: Celery) -> None:
        self._app = ref(app)
        self.name = f"the Celery app {app.main!r}" if app.main else repr(app)

    @property
    def app(self) -> Celery | None:
        """The app; None when the program has dropped it."""
        return self._app()

    def read_settings(self) -> Settings:
        """Read the app's settings; raises ImproperlyConfigured that lists what is wrong."""
        return read_settings(self.app)

    def called_job(self, function: Callable[..., Any]) -> Job | None:
        """Return the job of a task whose function runs because the task itself was called."""
        task = current_task._get_current_object()  # noqa: SLF001 - a proxy is never None
        if task is None or task.app is not self.app or _function_of(task) is not function:
            return None
        return _job(task, task.request.id or uuid())

    def may_note_uses(self) -> bool:
        """Return whether the app's result backend or broker is a Redis."""
        from bufpool_workers.celery.single_use import has_store  # noqa: PLC0415 - loads redis

        return self.app is None or has_store(self.app)


def setup(app: Celery) -> None:
    """Wire warm pools into the workers of `app`, and pools with its settings into other processes.

    It only registers handlers, and gives a worker without PROMETHEUS_MULTIPROC_DIR a directory of
    its own before its tasks import prometheus_client. A worker's start, or the first buffer, reads
    the settings (`bufpool_*` in `app.conf`). Another call changes nothing. Several apps in one
    process must have the same settings.

    Raises TypeError if `app` is no Celery app, or has a coroutine function below a decorator of
    this package, which Celery would not await. Workers refuse such functions that come later.
    """
    if not isinstance(app, Celery):
        raise TypeError(f"setup needs a Celery app, not {type(app).__name__}")
    if is_set_up(app):
        return
    if app.finalized:  # else its tasks are not made yet, and are not to be made early
        _refuse_coroutines(app)
    runtime = current_runtime()
    environment.prepare(runtime)
    runtime.add_host(CeleryHost(app))
    app.steps["worker"].update(_STEPS)
    _refuse_unsealed(app)
    if "celery.bin.celery" in sys.modules:  # for `celery report` and `inspect conf`
        app.add_defaults(_presence)
    if "celery.worker.control" in sys.modules:  # the `celery` command; a worker's step does it too
        from bufpool_workers.celery import control  # noqa: PLC0415 - not in producers

        control.register()
    # a spawned child gets a copy of the app, and perhaps none of the modules that call setup; its
    # fixups come along and are called with the copy
    app.fixups = {*app.fixups, f"{_HERE}.plugin:setup"}
    if environment.is_beat:
        app.on_after_finalize.connect(_check_schedule, weak=False)
        signals.beat_init.connect(_beat_begins, weak=False, dispatch_uid="bufpool")
    # one process has one set of pools, so the handlers are connected once, whatever the apps
    signals.worker_process_init.connect(_process_began, weak=False, dispatch_uid="bufpool")
    signals.worker_process_shutdown.connect(_process_ends, weak=False, dispatch_uid="bufpool")
    signals.worker_shutdown.connect(_worker_ends, weak=False, dispatch_uid="bufpool")
    signals.task_prerun.connect(_task_begins, weak=False, dispatch_uid="bufpool")
    signals.task_postrun.connect(_task_ended, weak=False, dispatch_uid="bufpool")


def _presence() -> dict[str, str]:
    return {PACKAGE: f"set up, version {bufpool_workers.__version__}"}


def _refuse_coroutines(app: Celery) -> None:
    from bufpool_workers.celery.coroutines import check_coroutines  # noqa: PLC0415 - seldom

    for finding in check_coroutines(app):
        raise TypeError(str(finding))


def is_set_up(app: Celery) -> bool:
    """Return whether `setup` was called with the app."""
    return any(host.app is app for host in current_runtime().hosts)


def read_settings(app: Any) -> Settings:
    """Read the `bufpool_*` settings of an app, which need not be set up.

    Raises ImproperlyConfigured that lists everything that is wrong with them.
    """
    try:
        return Settings.from_conf(app.conf)
    except SettingsError as error:
        raise ImproperlyConfigured(str(error)) from error


def _refuse_unsealed(app: Celery) -> None:
    """Check every message that `app` makes.

    The check sits where Celery makes a message of a call: behind it are delay, apply_async,
    send_task, canvases, retries and beat alike. Signals would not do, they swallow exceptions.
    """
    if app.amqp_cls == _STOCK_AMQP and "amqp" not in vars(app):
        # by name, since a spawned child gets the app pickled
        app.amqp_cls = _CHECKING_AMQP
    elif app.amqp_cls != _CHECKING_AMQP:
        from bufpool_workers.celery import publishing  # noqa: PLC0415 - not before there is a message

        publishing.add_check(app.amqp)


def _check_schedule(sender: Celery, **_: Any) -> None:
    """Refuse to start `celery beat` with a plain secret, before it writes its file of entries."""
    from bufpool_workers.celery.publishing import check_schedule  # noqa: PLC0415 - beat alone

    try:
        check_schedule(sender)
    except SealError as error:
        # signals swallow other exceptions
        raise SystemExit(f"celery beat: {error}") from None


def _beat_begins(sender: Any, **_: Any) -> None:
    _check_schedule(sender.app)  # of an app that was finalized before its tasks were imported


def _process_began(**_: Any) -> None:
    current_runtime().start_process()


def _process_ends(**_: Any) -> None:
    current_runtime().stop_process()


def _worker_ends(**_: Any) -> None:
    current_runtime().node.log_totals()


def _task_begins(task_id: str, task: Any, **_: Any) -> None:
    nested = current_job() is not None and bool(task.request.is_eager)
    current_runtime().begin_job(_job(task, task_id), nested=nested)


def _task_ended(task_id: str, task: Any, **_: Any) -> None:
    job = current_job()
    if job is None or job.id != task_id:
        job = _job(task, task_id)
    current_runtime().end_job(job)


def _job(task: Any, task_id: str) -> Job:
    return Job(
        id=task_id,
        name=task.name,
        function=_function_of(task),
        note_use=functools.partial(_note_use, task.app),
        give_up=functools.partial(_give_up, task),
        reply=functools.partial(_reply, task),
    )


def _function_of(task: Any) -> Callable[..., Any] | None:
    cls = task.__class__
    try:
        return _functions[cls]
    except KeyError:
        function = _functions[cls] = user_function(task)
        return function


def _note_use(app: Celery, key: str, holder: str, seconds: int) -> bool:
    from bufpool_workers.celery.single_use import note_use  # noqa: PLC0415 - loads redis

    return note_use(app, key, holder, seconds)


def _reply(task: Any) -> Reply:
    request = task.request
    is_ignored = task.ignore_result or request.ignore_result
    return Reply(not is_ignored, (request.headers or {}).get(REPLY_HEADER))


def _give_up(task: Any) -> None:
    # what did not open will not open next time: this makes Task.retry raise the error itself
    task.request.called_directly = True
    # it may be a plain secret, which result_extended would keep with the result
    task.request.update(args=(), kwargs={})
