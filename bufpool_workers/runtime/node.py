"""The node that a process belongs to: where it counts, what is told of it, its scrape."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import bufpool_workers
from bufpool_workers import counters
from bufpool_workers.errors import MetricsError, SettingsError
from bufpool_workers.runtime.directory import MetricsDirectory
from bufpool_workers.settings import PREFIX, Settings
from bufpool_workers.units import format_percentage

if TYPE_CHECKING:
    from bufpool_workers.counters.node_file import NodeInfo
    from bufpool_workers.metrics.server import Endpoint
    from bufpool_workers.runtime.process import Runtime

logger = logging.getLogger(__name__)


class Node:
    """The processes that count in one directory, as one of them sees it.

    The directory is chosen once. The main process, or where that is another program's each process,
    starts the node and may serve it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.directory = MetricsDirectory()
        self._has_joined = False

    def join(self, *, private: bool | Path = False) -> None:
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
            self.join()
            if self.directory.path is None and self._runtime.settings.metrics_dir is not None:
                self.directory.take(Path(self._runtime.settings.metrics_dir).absolute())
        return self.directory.path

    def check_warm(self, *, processes: int) -> None:
        """Check that what this many processes warm fits into memory; for main processes.

        Raises SettingsError with both numbers.
        """
        from bufpool_workers.diagnostics.capacity import check_memory  # noqa: PLC0415 - main alone
        from bufpool_workers.diagnostics.limits import Process, machine_bytes  # noqa: PLC0415

        finding = check_memory(
            self._runtime.settings,
            processes=processes,
            limit=Process.of().memory_limit_bytes,
            machine=machine_bytes(),
        )
        if finding.severity == "error":
            raise SettingsError(str(finding))

    def start(
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
        files of earlier nodes are merged. Raises SettingsError if the setting and the environment
        name two directories, and MetricsError if no process can count there.
        """
        if not self._has_joined:
            self.join()
        self.directory.apply_setting(self._runtime.settings.metrics_dir)
        directory = self.directory.path
        if directory is None:
            return
        if self.directory.is_private:
            private_directory = counters.private_directory
            manifest = private_directory.NodeManifest(node, app, pid or os.getpid())
            private_directory.advertise(directory, manifest)
        self._runtime.counters.check()
        try:
            info = self._describe(node, app, pid=pid or os.getpid(), software=software or {})
            counters.node_file.publish(directory, info)
        except OSError as error:
            logger.warning("bufpool: the metrics don't say whose they are: %s", error)
        self._runtime.counters.compact(directory)

    def _describe(
        self, node: str, app: str | None, *, pid: int, software: Mapping[str, str]
    ) -> NodeInfo:
        settings = self._runtime.settings.in_force()
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

    def serve(self) -> Endpoint:
        """Serve the node's scrape from a thread of this process, and from none of its children.

        Raises MetricsError that names the setting that was wrong.
        """
        from bufpool_workers.metrics import server  # noqa: PLC0415 - prometheus_client

        return self._serve_by(server.serve)

    def check_endpoint(self) -> None:
        """Check that the node's scrape can be served here; raise MetricsError as `serve` does."""
        from bufpool_workers.metrics import server  # noqa: PLC0415 - prometheus_client

        self._serve_by(server.listen).close()

    def _serve_by(self, serve: Callable[..., Endpoint]) -> Endpoint:
        from bufpool_workers.metrics import wsgi_app  # noqa: PLC0415 - prometheus_client

        settings = self._runtime.settings
        app = wsgi_app(
            self.metrics_directory,
            namespace=settings.metrics_namespace,
            compact_foreign=settings.compact_foreign,
        )
        return serve(
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
            report = counters.read_report(
                directory, namespace=self._runtime.settings.metrics_namespace
            )
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
