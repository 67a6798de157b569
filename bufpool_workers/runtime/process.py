"""One process of a node: its settings, pools and jobs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Protocol

from bufpool_workers import _loading
from bufpool_workers.errors import (
    SealError,
    SecureLevelUnmet,
    SettingsError,
)
from bufpool_workers.memory import Buffer, BufferPool, Pools, TaskTally, _core, load_keystream
from bufpool_workers.runtime import warmup
from bufpool_workers.runtime.counting import CounterBinding
from bufpool_workers.runtime.job import Job, current_job
from bufpool_workers.runtime.keyrings import Keyrings
from bufpool_workers.runtime.node import Node
from bufpool_workers.settings import PREFIX, Settings

if TYPE_CHECKING:
    from bufpool_workers.runtime.misuse import MisuseLog

logger = logging.getLogger(__name__)

_COUNTING: Final = tuple(
    f"bufpool_workers.counters.{name}" for name in ("catalog", "counterfile", "compaction")
)
_MISUSE: Final = "bufpool_workers.runtime.misuse"


class Host(Protocol):
    """A job system in this process, as its adapter describes it to the runtime."""

    @property
    def name(self) -> str:
        """The name that errors use, such as "the Celery app 'shop'"."""

    @property
    def app(self) -> Any:
        """The object that its settings belong to; None when that is gone."""

    def read_settings(self) -> Settings:
        """Read and check its settings; raises SettingsError, or the host's own error for them."""

    def called_job(self, function: Callable[..., Any]) -> Job | None:
        """Return the job of a function that runs because its task was called, not started."""

    def may_note_uses(self) -> bool:
        """Return False if it is known to have no store of single-use tokens."""


class Runtime:
    """The owner of a process. There is one in each, and one fork handler resets it.

    Settings are read when they are first used, and kept: they are the first host's, and a second
    host with other ones is an error. The metrics directory is chosen once. Pools, counter file and
    keys are made at their first use, and again in the child of a fork.

    `open_plain` is for `bufpool_workers.testing`: it makes the buffer of a plain value that stands
    where a token should.
    """

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin_in_child)

    def _begin(self) -> None:
        self.hosts: list[Host] = []
        self._unread: list[Host] = []
        self._settings: Settings | None = None
        self._whose = ""
        self._of_other_app: tuple[Any, Settings] | None = None
        self._pools: Pools | None = None
        self.node = Node(self)
        self.compacts = True  # False where a main process does it for its many short children
        self.keys = Keyrings(self)
        self.open_plain: Callable[[object], Buffer | None] | None = None
        self._begin_in_child()

    def _begin_in_child(self) -> None:
        self.counters = CounterBinding(self)
        self.keys.forget()
        self._misuse: MisuseLog | None = None
        self._is_started = False

    def reset(self) -> None:
        """Close the pools, and forget hosts, settings, keys and metrics directory; for tests."""
        self.stop_process()
        self.node.directory.withdraw()
        self._begin()

    # settings

    def add_host(self, host: Host) -> None:
        """Take a host's settings for those of this process, or compare them with the ones it has.

        They are read when settings are first used after this.
        """
        if not self.hosts:  # until now there were those of the environment, which no host had set
            self._settings = self._pools = None
        self.hosts.append(host)
        self._unread.append(host)
        _core.uninstall()  # the next use compares the settings

    @property
    def settings(self) -> Settings:
        """Return the settings of this process: its hosts', or without one the environment's.

        Raises what the host raises for wrong ones, and SettingsError where two hosts' differ.
        """
        while self._unread:
            host = self._unread[0]
            if host.app is not None:
                self._compare(host)
            self._unread = [each for each in self._unread if each is not host]
        if self._settings is None:
            self._settings = Settings.from_env()
        return self._settings

    def _compare(self, host: Host) -> None:
        settings = host.read_settings()
        if self._settings is None:
            self._settings, self._whose = settings, host.name
            return
        different = [
            PREFIX + field.name
            for field in fields(Settings)
            if getattr(settings, field.name) != getattr(self._settings, field.name)
        ]
        if different:
            raise SettingsError(
                f"{self._whose} and {host.name} are in one process and differ in "
                f"{', '.join(different)}: a process has one set of pools; give both the same "
                "settings (a test-suite calls bufpool_workers.testing.reset() between apps)"
            )

    def settings_of(self, app: Any) -> Settings:
        """Return the settings of an app, which may be one that is no host of this process."""
        if any(host.app is app for host in self.hosts):
            return self.settings
        if self._of_other_app is None or self._of_other_app[0] is not app.conf:
            self._of_other_app = app.conf, Settings.from_conf(app.conf)
        return self._of_other_app[1]

    def settings_for(self, task: Any) -> Settings:
        """Return the settings of a task's app; for a task's name those of this process."""
        app = getattr(task, "app", None)
        # a producer may seal by name for the app that is current in it, and never call setup
        if app is None and not self.hosts and "celery" in sys.modules:
            app = sys.modules["celery"].current_app
        return self.settings if app is None else self.settings_of(app)

    # memory

    @property
    def pools(self) -> Pools:
        """Return the pools of this process; the first use makes them."""
        settings = self.settings
        if self._pools is None:
            _loading.load(*_COUNTING, _MISUSE)
        made = _core.installed_pools() or self._pools or self._make_pools(settings)
        self._pools = _core.install(made)  # of two threads that made some, the first one's
        return self._pools

    def _make_pools(self, settings: Settings) -> Pools:
        return Pools(settings, prepare=self._bind, tally=self._tally)

    # by way of this object: the child of a fork has other counters
    def _bind(self, pool: BufferPool) -> None:
        self.counters.bind(pool)

    def _tally(self, task: str) -> TaskTally:
        return self.counters.tally(task)

    def note_misuse(  # noqa: PLR0913 - as the core calls it
        self,
        field: str,
        kind: str,
        nbytes: int,
        number: int,
        task: str | None,
        acquired_at: str | None,
        place: str,
    ) -> None:
        """Log a misuse that the core has counted; count an escape by where its buffer came from."""
        if self._misuse is None:
            from bufpool_workers.runtime.misuse import MisuseLog  # noqa: PLC0415 - loaded by now

            self._misuse = MisuseLog()
        if field == "escapes" and acquired_at is not None:
            self.counters.note_escape(kind, acquired_at)
        self._misuse.note(field, kind=kind, nbytes=nbytes, number=number, task=task, place=place)

    def start_process(self) -> None:
        """Warm the pools and load the private keys, once in each process; safe to call again.

        A failure is logged, not raised: buffers are mapped when they are asked for, and hosts
        swallow what their signal handlers raise.
        """
        if self._is_started:
            return
        self._is_started = True
        self.node.directory.hold()
        if self.settings.private_keys:
            # before the warm-up, which may lock all that this process may lock
            try:
                self.keys.private  # noqa: B018 - loads it
            except (SealError, SecureLevelUnmet) as error:  # said in one line
                logger.error(  # noqa: TRY400 - where it was tried says nothing
                    "bufpool: no private keys; tasks with sealed arguments will fail: %s", error
                )
        warmup.warm(self.pools, self.counters)

    def stop_process(self) -> None:
        """Close the pools at the process's end; what it counted stays in the node's totals.

        A later use makes new ones: the process may go on, as one with an embedded worker does.
        """
        self._is_started = False
        pools, self._pools = _core.installed_pools() or self._pools, None
        _core.uninstall()
        if pools is not None:
            pools.close()

    def load_late_imports(self, *, store: str | None = None) -> None:
        """Import what is else imported at its first use; for main processes, before they fork.

        `store` is the module with the host's own store of single-use tokens.
        """
        _loading.load(*_COUNTING, _MISUSE)
        if self.settings.warm["random"]:
            load_keystream()
        if self.settings.tune_malloc:
            _loading.load("bufpool_workers.runtime.malloc")
        if self.settings.private_keys or self.settings.result_private_keys:
            _loading.load("bufpool_workers.sealing.keyring", *([store] if store else []))
        if self.settings.single_use_url is not None:
            _loading.load("bufpool_workers.redis_store")
        if self.settings.metrics_port is not None:
            _loading.load("bufpool_workers.metrics.server")

    # jobs

    def begin_job(self, job: Job, *, nested: bool = False) -> None:
        """Note that a job begins in this context: `end_job` takes back what it then still holds.

        A job that is not `nested` in another one ends those that are open here: they have ended
        without a word, as one does that an exception interrupts outside its body.
        """
        while not nested and (open_scope := _core.outermost_scope()):
            name, open_job = open_scope
            self._end(name, open_job)
        _core.enter_scope(job.id, job)

    def end_job(self, job: Job) -> int:
        """Take back the buffers that the job still holds, with a warning; return their number.

        It also trims the pools if that was asked of this process.
        """
        try:
            return self._end(job.id, job)
        finally:  # a warning may be made an error
            self.counters.ensure_file()
            if self._misuse is not None:
                self._misuse.log_due()
            if self.counters.is_trim_asked():
                warmup.trim(self.pools)

    def _end(self, job_id: str, job: Job | None) -> int:
        code = getattr(job and job.function, "__code__", None)
        return self.pools.end_task(job_id, name=job.name if job else job_id, code=code)

    def job_of(self, function: Callable[..., Any]) -> Job | None:
        """Return the running job whose own function this is; None if there is none."""
        job = current_job()
        if job is not None and job.function is function:
            return job
        called = (host.called_job(function) for host in self.hosts)
        return next((job for job in called if job is not None), None)


_runtime: Final = Runtime()


def current_runtime() -> Runtime:
    """Return the runtime of this process."""
    return _runtime


_core.set_owner(_runtime)
