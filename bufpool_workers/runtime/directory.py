"""The directory in which a node's processes count: chosen once, absolute, and kept."""

from __future__ import annotations

import os
from pathlib import Path

from bufpool_workers import counters
from bufpool_workers._environ import VARIABLE, check_agreement, directory_of_environment
from bufpool_workers.errors import MetricsError

_SETTER = "BUFPOOL_METRICS_DIR_SETTER"  # the pid of the main process that set it itself


class MetricsDirectory:
    """The metrics directory of a process: none, the deployment's, or a private one of its node.

    It is read from the environment once. What other libraries write there later, and a change of
    the current directory, change nothing.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.is_private = False

    def join(self, *, private: bool | Path = False) -> None:
        """Take the directory that the environment names, else make a private one if asked to.

        `private` may be one that is there, which the node's processes share. Raises MetricsError
        if the environment names one that is not there, and if no private one can be made.
        """
        if _is_set_here():  # by what this process ran before SIGHUP; its lock is gone
            os.environ.pop(VARIABLE, None)
        path = directory_of_environment()
        if path is not None:
            if private and not path.is_dir():
                what = "it is not a directory" if path.exists() else "it does not exist; create it"
                raise MetricsError(
                    f"metrics directory {str(path)!r}: {what}, or leave {VARIABLE} out for a "
                    "private one"
                )
            self.path = path
            os.environ[VARIABLE] = str(path)  # absolute, for prometheus_client and for children
        elif private:
            try:
                made = private if private is not True else counters.private_directory.make()
            except OSError as error:
                raise no_private_directory(error) from error
            self.is_private = True
            self._set(made)

    def apply_setting(self, metrics_dir: str | None) -> None:
        """Take the directory that the setting `bufpool_metrics_dir` names, for a private one.

        Raises MetricsError if the setting and the environment name two directories.
        """
        if metrics_dir is None or self.path == (path := Path(metrics_dir).absolute()):
            return
        check_agreement(metrics_dir, None if self.is_private else self.path)
        self.is_private = False
        self._set(path)

    def hold(self) -> bool:
        """Name it in the environment, for prometheus_client, which reads it there again and again.

        Return whether a library had put another one there.
        """
        if self.path is None or os.environ.get(VARIABLE) == str(self.path):
            return False
        os.environ[VARIABLE] = str(self.path)
        return True

    def recreate(self) -> None:
        """Make it again if something has removed it under a running node."""
        if self.path is not None:
            counters.private_directory.recreate(self.path)

    def _set(self, path: Path) -> None:
        self.path = path
        os.environ.update({VARIABLE: str(path), _SETTER: str(os.getpid())})


def no_private_directory(error: OSError) -> MetricsError:
    """Return the error for a private directory that can't be made, with what to set."""
    return MetricsError(
        f"no private metrics directory can be made ({error.strerror or error}): set {VARIABLE} to "
        "a directory that this process may write, or TMPDIR to where it may make one"
    )


def _is_set_here() -> bool:
    """Return whether this process set the variable; SIGHUP restarts it under the same pid."""
    return os.environ.get(_SETTER) == str(os.getpid())
