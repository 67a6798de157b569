"""The host of the `bufpool` command: metrics directories, and settings of the environment."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from pathlib import Path

import click

from bufpool_workers.diagnostics.finding import Finding
from bufpool_workers.diagnostics.limits import Process, machine_bytes
from bufpool_workers.diagnostics.node_finder import NodeFinder
from bufpool_workers.errors import SettingsError
from bufpool_workers.settings import Settings


class DirectoryHost:
    """Nodes of any job system and program; see `Host` in `console/commands/common.py`."""

    def __init__(self, *, no_color: bool) -> None:
        self.no_color = no_color

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of the environment; raises click.UsageError when they are wrong."""
        try:
            return Settings.from_env()
        except SettingsError as error:
            raise click.UsageError(str(error)) from error

    def node_finder(
        self,
        *,
        directory: Path | None,
        names: Collection[str],
        timeout_seconds: float,  # noqa: ARG002 - of a broker, which a directory needs none of
    ) -> NodeFinder:
        """Make a finder of nodes on this host."""
        return NodeFinder(settings=self.settings, directory=directory, names=names)

    def diagnose(self, finder: NodeFinder) -> Iterator[Finding]:
        """Check the host, the settings and the nodes."""
        from bufpool_workers.diagnostics.doctor import diagnose  # noqa: PLC0415 - doctor alone

        return diagnose(finder, check_program=self._check_settings)

    def _check_settings(self, process: Process, processes: int) -> Iterator[Finding]:
        from bufpool_workers.diagnostics.capacity import check_memory  # noqa: PLC0415 - as above

        yield check_memory(
            self.settings,
            processes=max(processes, 1),
            limit=process.memory_limit_bytes,
            machine=machine_bytes(),
        )
        if self.settings.public_key or self.settings.private_keys:
            from bufpool_workers.console.key_checks import (  # noqa: PLC0415 - cryptography
                check_keys,
            )

            yield from check_keys(self.settings)
