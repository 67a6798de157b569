"""The directory in which a node's processes count: chosen once, absolute, and kept."""

from __future__ import annotations

import os
from pathlib import Path

from bufpool_workers import counters
from bufpool_workers._environ import SETTER, VARIABLE, check_agreement, directory_of_environment
from bufpool_workers.counters.directory import fault_of
from bufpool_workers.errors import MetricsError


class MetricsDirectory:
    """The metrics directory of a process: none, the deployment's, or a private one of its node.

    It is read from the environment once. What other libraries write there later, and a change of
    the current directory, change nothing.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.is_private = False
        self._was_there = False

    def join(self, *, private: bool | Path = False) -> None:
        """Take the directory that the environment names, else make a private one if asked to.

        `private` may be one that is there, which the node's processes share. Raises MetricsError
        if the environment names one that is not there, and if no private one can be made.
        """
        self.withdraw()  # what this process ran before SIGHUP has set one, whose lock is gone
        path = directory_of_environment()
        if path is not None:
            if private and not path.is_dir():
                raise MetricsError(
                    f"metrics directory {str(path)!r}: {fault_of(path)}; create one, or leave "
                    f"{VARIABLE} out for a private one"
                )
            self.take(path)
            os.environ[VARIABLE] = str(path)  # absolute, for prometheus_client and for children
        elif private:
            try:
                made = private if private is not True else counters.private_directory.make()
            except OSError as error:
                raise no_private_directory(error) from error
            self.is_private = True
            self._set(made)

    def withdraw(self) -> None:
        """Take what this process has set out of the environment; SIGHUP keeps its pid."""
        if os.environ.get(SETTER) == str(os.getpid()):
            del os.environ[SETTER]
            os.environ.pop(VARIABLE, None)

    def apply_setting(self, metrics_dir: str | None) -> None:
        """Take the directory that the setting `bufpool_metrics_dir` names, for a private one.

        Raises SettingsError if the setting and the environment name two directories.
        """
        if metrics_dir is None or self.path == (path := Path(metrics_dir).absolute()):
            return
        check_agreement(metrics_dir, None if self.is_private else self.path)
        self.is_private = False
        self._set(path)

    def hold(self) -> bool:
        """Name the directory in the environment, where prometheus_client reads it again and again.

        Return whether a library had put another one there.
        """
        if self.path is None or os.environ.get(VARIABLE) == str(self.path):
            return False
        os.environ[VARIABLE] = str(self.path)
        return True

    def recreate(self) -> None:
        """Make the directory again if something has removed it under a running node.

        One that was never there is a mistake, and is not made: nobody would scrape it.
        """
        if self.path is not None and self._was_there:
            counters.private_directory.recreate(self.path)

    def take(self, path: Path) -> None:
        """Take a directory, without a word to other libraries."""
        self.path = path
        # a private one of this name was, when its main process made it
        self._was_there = path.is_dir() or counters.private_directory.is_named_as_one(path)

    def _set(self, path: Path) -> None:
        self.take(path)
        os.environ.update({VARIABLE: str(path), SETTER: str(os.getpid())})


def no_private_directory(error: OSError) -> MetricsError:
    """Return the error for a private directory that can't be made, with what to set."""
    return MetricsError(
        f"no private metrics directory can be made ({error.strerror or error}): set {VARIABLE} to "
        "a directory that this process may write, or TMPDIR to where it may make one"
    )
