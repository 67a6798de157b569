"""Settings of a process that no job system has a configuration for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bufpool_workers.runtime.job import Job
from bufpool_workers.runtime.process import current_runtime
from bufpool_workers.settings import Settings


class PlainHost:
    """A host whose settings are a mapping, a `Settings`, or those of the environment (None).

    They are read and checked here, once. Raises SettingsError that lists everything that is wrong.
    `name` says in errors whose they are. An adapter of a job system may inherit from it.
    """

    def __init__(self, name: str, settings: Settings | Mapping[str, Any] | None = None) -> None:
        self.name = name
        self._settings = read_settings(settings)

    @property
    def app(self) -> object:
        """Itself: nothing else owns its settings."""
        return self

    def read_settings(self) -> Settings:
        """Return the settings that it was made with."""
        return self._settings

    def called_job(self, function: Callable[..., Any]) -> Job | None:  # noqa: ARG002 - no job system
        """Return None: a plain call of a function is no job."""
        return None

    def may_note_uses(self) -> bool:
        """Return True: its job system may have a Redis."""
        return True


def read_settings(settings: Settings | Mapping[str, Any] | None) -> Settings:
    """Return settings of a mapping, or for None of the environment; raise SettingsError."""
    if isinstance(settings, Settings):
        return settings
    if settings is None:
        return Settings.from_env()
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings are a mapping of names, not {type(settings).__name__}")
    return Settings.read(settings)


def configure(settings: Settings | Mapping[str, Any] | None = None, /, **named: Any) -> None:
    """Set this process's settings, in a program whose job system has none.

    Pass a mapping of names with or without `bufpool_`, or keywords, as in
    `configure(metrics_port=9464)`. A call without any reads the environment
    (BUFPOOL_METRICS_PORT=9464), and so does a process that nobody configured. From then on the
    process counts in the metrics directory.

    Another call with the same settings changes nothing. Raises SettingsError, which lists all
    mistakes. A job system of this process that has other settings raises it at their first use.
    """
    if named and settings is not None:
        raise TypeError("configure takes a mapping or named settings, not both")
    host = PlainHost("bufpool_workers.configure", named or settings)
    runtime = current_runtime()
    if not any(_is_same(host, other) for other in runtime.hosts):
        runtime.add_host(host)


def configured(name: str) -> Settings:
    """Return the settings of this process: the environment's, where nothing else gave it any.

    `name` says in errors whose they are.
    """
    runtime = current_runtime()
    if not runtime.hosts:
        runtime.add_host(PlainHost(name))
    return runtime.settings


def _is_same(host: PlainHost, other: object) -> bool:
    return (
        isinstance(other, PlainHost)
        and other.name == host.name
        and other.read_settings() == host.read_settings()
    )
