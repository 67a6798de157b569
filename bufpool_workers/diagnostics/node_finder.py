"""Finds the nodes of this host, in their metrics directories."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from bufpool_workers._environ import VARIABLE, configured_directory
from bufpool_workers._record import record_class
from bufpool_workers.counters import private_directory
from bufpool_workers.counters.report import Report
from bufpool_workers.counters.reporter import read_report
from bufpool_workers.diagnostics.nodes import Node
from bufpool_workers.errors import MetricsError
from bufpool_workers.settings import Settings


class BrokerError(MetricsError):
    """The nodes can't be asked: the broker is not reachable, or its URL is wrong."""


@record_class(frozen=True, kw_only=True, slots=True)
class NodeFinder:
    """Finds nodes by what they counted on this host.

    With `names`: each of them. Without: all that count in `directory`, or in the metrics directory
    that is set; else this host's nodes with private ones.
    """

    settings: Settings
    directory: Path | None = None
    names: Collection[str] = ()

    @property
    def chosen_directory(self) -> Path | None:
        """The directory that was given or is set; raises SettingsError where two are set."""
        return self.directory or configured_directory(self.settings.metrics_dir)

    @property
    def is_for_every_app(self) -> bool:
        """True if the nodes of all apps are found although one was to be chosen."""
        return False

    def find(self) -> list[Node]:
        """Read the numbers of the nodes.

        Raises MetricsError that names where it looked when there are none; BrokerError when the
        nodes could not be asked.
        """
        directory = self.chosen_directory
        if directory is not None and not self.names:
            return [Node(name=str(directory), report=self._read(directory))]
        nodes = self._private(self.takes)
        missing = [name for name in self.names if name not in {node.name for node in nodes}]
        if missing or not nodes:
            nodes += self.find_elsewhere(missing)
        return nodes

    def find_all(self) -> list[Node]:
        """Read the numbers of all nodes of this host, whatever their app.

        Those of the directory that was given or is set come first, together. Raises MetricsError
        where there are none.
        """
        directory = self.chosen_directory
        shared = (
            [] if directory is None else [Node(name=str(directory), report=self._read(directory))]
        )
        nodes = shared + self._private(lambda _: True)
        return nodes or self.find_elsewhere(())

    def find_elsewhere(self, names: Collection[str]) -> list[Node]:
        """Find the nodes that count in no private directory of this host."""
        who = ", ".join(names) or "no node"
        raise MetricsError(
            f"{who}: not found in a private directory of this host; give the metrics directory, "
            f"or set {VARIABLE} as for the workers"
        )

    def takes(self, manifest: private_directory.NodeManifest) -> bool:  # noqa: ARG002 - of a host
        """Return whether a node is one of those that are looked for, where none was named."""
        return True

    def _private(self, takes: Callable[[private_directory.NodeManifest], bool]) -> list[Node]:
        nodes = []
        for path, manifest in private_directory.discover():
            if manifest.node in self.names if self.names else takes(manifest):
                try:
                    report = self._read(path)
                except MetricsError:
                    if path.exists():
                        raise
                else:  # its worker has not ended meanwhile
                    nodes.append(Node(name=manifest.node, report=report, pid=manifest.pid))
        return nodes

    def _read(self, directory: Path) -> Report:
        return read_report(directory, namespace=self.settings.metrics_namespace)
