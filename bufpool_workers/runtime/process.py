"""One process of a node: its settings, pools, counter file, keys and jobs."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import bufpool_workers
from bufpool_workers import _loading, counters
from bufpool_workers.errors import (
    KeyFileError,
    MetricsError,
    SealError,
    SecureLevelUnmet,
    SettingsError,
)
from bufpool_workers.memory import Buffer, BufferPool, Pools, _core, load_keystream
from bufpool_workers.runtime import warmup
from bufpool_workers.runtime.counting import CounterBinding
from bufpool_workers.runtime.directory import MetricsDirectory
from bufpool_workers.runtime.job import Job, current_job
from bufpool_workers.settings import PREFIX, Settings
from bufpool_workers.units import KiB, format_percentage

if TYPE_CHECKING:
    from bufpool_workers.counters.node_file import NodeInfo
    from bufpool_workers.metrics.server import Endpoint
    from bufpool_workers.runtime.misuse import MisuseLog
    from bufpool_workers.sealing.keyring import Keyring
    from bufpool_workers.sealing.single_use import Store

logger = logging.getLogger(__name__)

_COUNTING: Final = tuple(
    f"bufpool_workers.counters.{name}" for name in ("catalog", "counterfile", "compaction")
)
_MISUSE: Final = "bufpool_workers.runtime.misuse"


class Host(Protocol):
    """A job system in this process, as its adapter describes it to the runtime."""

    @property
    def name(self) -> str:
        """How errors call it, such as "the Celery app 'shop'"."""

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

    `test_keys` and `open_plain` are for `bufpool_workers.testing`: keys in memory with their public
    key's text, and what makes the buffer of a plain value that stands where a token should.
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
        self.directory = MetricsDirectory()
        self._has_joined = False
        self.compacts = True  # False where a main process does it for its many short children
        self.test_keys: tuple[Keyring, str] | None = None
        self.open_plain: Callable[[object], Buffer | None] | None = None
        self._begin_in_child()

    def _begin_in_child(self) -> None:
        self.counters = CounterBinding(self)
        self._keyring: Keyring | None = None
        self._misuse: MisuseLog | None = None
        self._result_keys: tuple[tuple[str, ...], Keyring] | None = None
        self._keeps_keys_out = False
        self._note_use: Store | None = None
        self._is_started = False

    def reset(self) -> None:
        """Close the pools, and forget hosts, settings, keys and metrics directory; for tests."""
        self.stop_process()
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
        made = _core.installed_pools() or self._pools or Pools(settings, prepare=self._bind)
        self._pools = _core.install(made)  # of two threads that made some, the first one's
        return self._pools

    def _bind(self, pool: BufferPool) -> None:
        self.counters.bind(pool)

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
        self.directory.hold()
        if self.settings.private_keys:
            # before the warm-up, which may lock all that this process may lock
            try:
                self.keyring  # noqa: B018 - loads it
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

    # keys

    @property
    def keyring(self) -> Keyring:
        """Return this process's private keys; the first use loads them, also after a fork.

        Raises KeyFileError if one can't be used.
        """
        if self.test_keys is not None:
            return self.test_keys[0]
        if self._keyring is None:
            self._keyring = self._load_keys(self.settings.private_keys)
        return self._keyring

    def public_key_for(self, task: Any) -> str | None:
        """Return the public key that secrets are sealed to for a task, or for a task's name."""
        if self.test_keys is not None:
            return self.test_keys[1]
        return self.settings_for(task).public_key

    def result_keyring(self, settings: Settings) -> Keyring:
        """Return the private keys of these settings that open results; the first use loads them.

        Raises KeyFileError if one can't be used.
        """
        paths = settings.result_private_keys
        if self._result_keys is None or self._result_keys[0] != paths:
            self._result_keys = paths, self._load_keys(paths)
        return self._result_keys[1]

    def keep_keys_out(self) -> None:
        """Load no private key in this process from now on: its children run the jobs, and may."""
        self._keeps_keys_out = True

    def use_store(self, job: Job) -> Store | None:
        """Return the store of single-use tokens: that of the settings, else that of the job's host.

        None if there is none.
        """
        url = self.settings.single_use_url
        if url is None:
            return job.note_use
        if self._note_use is None:
            from bufpool_workers import redis_store  # noqa: PLC0415 - redis

            self._note_use = partial(redis_store.note_use, redis_store.connect(url))
        return self._note_use

    def _load_keys(self, paths: Iterable[str]) -> Keyring:
        from bufpool_workers.sealing.keyring import Keyring  # noqa: PLC0415 - cryptography

        if self._keeps_keys_out:
            raise KeyFileError(
                "the main process of a worker opens nothing sealed, since it holds no private key: "
                "Celery calls an error callback there when the task's process was killed or met "
                "its hard time limit; let the callback take the task's id alone, or start a task"
            )
        # not the pool of the tasks, whose counters are the tasks' own
        pool = BufferPool(
            "secure",
            size_classes=(4 * KiB,),
            max_bytes=64 * KiB,
            max_buffer_bytes=4 * KiB,
            secure_level=self.settings.secure_level,
        )
        with closing(pool):
            return Keyring(paths, read_with=pool.acquire)

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

    # the node

    def join_node(self, *, private: bool | Path = False) -> None:
        """Choose the metrics directory; with `private`, make one where the environment names none.

        `private` may be one that is there, which the node's processes share. Raises MetricsError
        if the environment names one that is not there, or if none can be made.
        """
        self._has_joined = True
        self.directory.join(private=private)

    def share_metrics(self) -> None:
        """Make prometheus_client's metrics count in the directory too, if other code moved them."""
        self.directory.hold()
        if self.directory.path is not None and "prometheus_client" in sys.modules:
            from bufpool_workers.metrics import late_values  # noqa: PLC0415 - with the client alone

            late_values.share_values()

    @property
    def metrics_directory(self) -> Path | None:
        """Return the directory in which this process counts, absolute; None if there is none."""
        if not self._has_joined:
            self.join_node()
            if self.directory.path is None and self.settings.metrics_dir is not None:
                self.directory.path = Path(self.settings.metrics_dir).absolute()
        return self.directory.path

    def check_warm(self, *, processes: int) -> None:
        """Check that what this many processes warm fits into memory; for main processes.

        Raises SettingsError with both numbers.
        """
        from bufpool_workers.diagnostics.capacity import check_memory  # noqa: PLC0415 - main alone
        from bufpool_workers.diagnostics.limits import Process, machine_bytes  # noqa: PLC0415

        finding = check_memory(
            self.settings,
            processes=processes,
            limit=Process.of().memory_limit_bytes,
            machine=machine_bytes(),
        )
        if finding.severity == "error":
            raise SettingsError(str(finding))

    def start_node(
        self,
        *,
        node: str,
        app: str | None,
        pid: int | None = None,
        software: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the directory for the node whose main process this is, before it has children.

        Where that is another program's process, `pid`, each process of the node does it, before it
        counts. `node`, `app` and the versions of the host's `software` are written there, and the
        files of earlier nodes are merged. Raises MetricsError if the setting and the environment
        name two directories, or if no process can count there.
        """
        if not self._has_joined:
            self.join_node()
        self.directory.apply_setting(self.settings.metrics_dir)
        directory = self.directory.path
        if directory is None:
            return
        if self.directory.is_private:
            private_directory = counters.private_directory
            manifest = private_directory.NodeManifest(node, app, pid or os.getpid())
            private_directory.advertise(directory, manifest)
        self.counters.check()
        try:
            info = self._describe(node, app, pid=pid or os.getpid(), software=software or {})
            counters.node_file.publish(directory, info)
        except OSError as error:
            logger.warning("bufpool: nobody is told whose numbers these are: %s", error)
        self.counters.compact(directory)

    def _describe(
        self, node: str, app: str | None, *, pid: int, software: Mapping[str, str]
    ) -> NodeInfo:
        settings = self.settings.in_force()
        defaults = Settings().in_force()
        return counters.node_file.NodeInfo(
            node=node,
            host=os.uname().nodename,
            app=app,
            pid=pid,
            started=counters.node_file.process_started(pid),
            software={
                "bufpool_workers": bufpool_workers.__version__,
                "python": platform.python_version(),
                **software,
            },
            settings=settings,
            changed=tuple(name for name in settings if settings[name] != defaults[name]),
        )

    def serve_metrics(self) -> Endpoint:
        """Serve the node's scrape from a thread of this process, and from none of its children.

        Raises MetricsError that names the setting that was wrong.
        """
        from bufpool_workers.metrics import server, wsgi_app  # noqa: PLC0415 - prometheus_client

        settings = self.settings
        app = wsgi_app(
            self.metrics_directory,
            namespace=settings.metrics_namespace,
            compact_foreign=settings.compact_foreign,
        )
        return server.serve(
            app,
            host=settings.metrics_host,
            port=settings.metrics_port or 0,
            hosts=settings.metrics_hosts,
            tls=settings.metrics_tls,
            given={
                name: f"{PREFIX}metrics_{name} = {getattr(settings, f'metrics_{name}')!r}"
                for name in ("host", "port")
            },
        )

    def log_totals(self) -> None:
        """Log one line of what the node counted, its dead processes included."""
        directory = self.metrics_directory
        if directory is None:
            return
        try:
            report = counters.read_report(directory, namespace=self.settings.metrics_namespace)
        except MetricsError as error:
            logger.warning("bufpool: no totals: %s", error)
            return
        total = report.total
        logger.info(
            "bufpool: %d gets, hit rate %s, %d escapes, %d reclaims",
            total.gets,
            "-" if total.hit_rate is None else format_percentage(total.hit_rate),
            total.escapes,
            total.reclaims,
            extra={"bufpool": {"event": "ended", **total.as_dict()}},
        )


_runtime: Final = Runtime()


def current_runtime() -> Runtime:
    """Return the runtime of this process."""
    return _runtime


_core.set_owner(_runtime)
