"""A command as a process that can't outlive its test, with a log that can be waited for."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import psutil

from tests.support.waiting import wait_until

T = TypeVar("T")
_TAIL_LINES = 40


class LocalProcess:
    """A command run in a session of its own, with stdout and stderr in one log file.

    `user` is the id of another user and group that it runs as, which only root may ask for.

    `close()` ends every process of that session: also the children that survived their parent, and
    those that made a process group of their own.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log_path = log
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                self.argv,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else (),
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def exit_status(self) -> int | None:
        """As `Popen.returncode`: None while it runs, minus the signal that ended it."""
        return self._process.poll()

    def log(self) -> str:
        """Return what this process and its children have logged; not what the file held before."""
        return self.log_path.read_bytes()[self._log_start :].decode(errors="replace")

    def tail(self) -> str:
        """The last lines of the log, for the message of a failure."""
        return "\n".join(self.log().splitlines()[-_TAIL_LINES:])

    def wait_until(self, check: Callable[[], T], *, what: str, timeout_seconds: float = 20) -> T:
        """Wait as the function `wait_until` does, for what this process is to bring about.

        Raises TimeoutError at the deadline and ChildProcessError when the process ended before,
        both with the end of its log.
        """

        def checked() -> T:
            ended = self.exit_status  # asked first: what it did last is then seen
            found = check()
            if ended is not None and not found:
                raise ChildProcessError(
                    f"{self.argv[0]} ended with {ended} before this: {what}\n{self.tail()}"
                )
            return found

        try:
            return wait_until(checked, what=what, timeout_seconds=timeout_seconds)
        except TimeoutError as late:
            late.add_note(self.tail())
            raise

    def wait_for_log(
        self, pattern: str, *, count: int = 1, timeout_seconds: float = 20
    ) -> list[re.Match[str]]:
        """Wait until the regular expression occurs `count` times in the log; return all matches.

        For lines that are themselves what is tested: whether a process is ready is asked.
        """

        def seen() -> list[re.Match[str]]:
            found = list(re.finditer(pattern, self.log(), re.MULTILINE))
            return found if len(found) >= count else []

        return self.wait_until(
            seen, what=f"{pattern!r} in the log", timeout_seconds=timeout_seconds
        )

    def wait_for_port(self) -> int:
        """Wait until it, or a process that it started, listens on TCP; return the first's port.

        The kernel is asked, for this test's own network namespace.
        """
        return self.wait_until(self._port, what="a port that it listens on")

    def _port(self) -> int | None:
        for pid in self.members():
            with contextlib.suppress(psutil.NoSuchProcess):
                for connection in psutil.Process(pid).net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        return int(connection.laddr.port)
        return None

    def send_signal(self, number: int) -> None:
        """Signal the first process alone, as an init system would."""
        self._process.send_signal(number)

    def wait(self, *, timeout_seconds: float = 20) -> int:
        """Wait for the first process to end by itself; return its exit status."""
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as late:
            late.add_note(self.tail())
            raise

    def members(self) -> list[int]:
        """The live processes of the session, in ascending order."""
        return sorted(pid for pid in psutil.pids() if _is_live_in_session(pid, self.pid))

    def close(self) -> None:
        """End all that is left of the session and wait until it is gone."""

        def gone() -> bool:
            members = self.members()
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            # reaps, so that it leaves the session; later than it is dead if it has threads
            return self._process.poll() is not None and not members

        wait_until(gone, what=f"the end of session {self.pid}")


def _is_live_in_session(pid: int, session: int) -> bool:
    # PermissionError: another user's process, on systems that keep its session to themselves
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
        return False
