"""What stands in for a Docker container: a local process with the attributes of a container."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.celery_worker import wait_for_pong
from tests.support.ports import free_port
from tests.support.processes import LocalProcess
from tests.support.redis_server import find_redis, wait_for_redis

SESSION_VARIABLE = "TEST_ENGINE_SESSION"
_LOOPBACK = "127.0.0.1"
_REDIS_PORT = "6379/tcp"
_SIGNAL_PACE_SECONDS = 0.1


class Container:
    """The part of `docker.models.containers.Container` that the wrappers use: one process session.

    Paths in the command and environment that lie in a volume become the volume's folder; the port
    of Redis becomes a free one; the host name becomes an address that a URL can hold.
    """

    def __init__(
        self,
        command: Sequence[str | None],
        *,
        environment: Mapping[str, Any] | None,
        ports: Iterable[str] | None,
        binds: Mapping[str, Path],
    ) -> None:
        self.id = uuid.uuid4().hex
        self.name = f"process-{self.id[:12]}"
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self._binds = binds
        self._cwd = binds.get("/app", self._folder)
        self._ports = {port: free_port() for port in ports or ()}
        self._env = {key: self._outside(str(value)) for key, value in (environment or {}).items()}
        self._argv = self._command(command)
        self.attrs: dict[str, Any] = {
            "Config": {
                # Redis URLs have no room for a port of their own: it comes with the host's name
                "Hostname": next((f"{_LOOPBACK}:{n}" for n in self._ports.values()), self.id[:12]),
                "Env": [f"{name}={value}" for name, value in self._env.items()],
                "Labels": {},
            },
            "HostConfig": {"PortBindings": {}},
            "NetworkSettings": {
                "Networks": {"loopback": {"IPAddress": _LOOPBACK}},
                "Ports": {port: [{"HostPort": str(n)}] for port, n in self._ports.items()},
            },
        }
        try:
            self._start()
        except BaseException:
            self.remove(force=True)  # nobody else has this container yet
            raise

    def _outside(self, text: str) -> str:
        for inside, folder in self._binds.items():
            if text == inside or text.startswith(f"{inside}/"):
                return f"{folder}{text.removeprefix(inside)}"
        return text

    def _command(self, command: Sequence[str | None]) -> list[str]:
        # a template renders "" to None
        argv = [self._outside(part or "").replace("%h", self.id[:12]) for part in command]
        if argv[0] == "redis-server":
            argv[0] = find_redis().path
            argv += ["--bind", _LOOPBACK, "--port", str(self._ports[_REDIS_PORT])]
            argv += ["--dir", str(self._folder)]
        elif argv[0] == "celery":
            argv[:1] = [sys.executable, "-m", "celery"]
        else:
            raise ValueError(f"the process engine runs redis-server and celery, not {argv[0]!r}")
        return argv

    def _start(self) -> None:
        log = self._folder / "log"
        self._process = LocalProcess(self._argv, log=log, cwd=self._cwd, env=self._env)
        self._wait_ready()  # the wrappers look once a second: arrive ready
        self.reload()

    def _wait_ready(self) -> None:
        if _REDIS_PORT in self._ports:
            wait_for_redis(self._process, host=_LOOPBACK, port=self._ports[_REDIS_PORT])
        else:
            node = self._argv[self._argv.index("-n") + 1]
            wait_for_pong(self._process, self._env["CELERY_BROKER_URL"], node)

    def reload(self) -> None:
        """Bring `status` up to date."""
        ended = self._process.exit_status
        if ended is not None:  # a container ends with its first process
            self._process.close()
        self.status = "running" if ended is None else "exited"
        code = 128 - ended if ended is not None and ended < 0 else ended or 0
        self.attrs["State"] = {"Status": self.status, "ExitCode": code}

    def kill(self, signal: str | int | None = None) -> None:
        """Send a signal to the first process; SIGKILL, the default, ends the container."""
        number = _signal_number(signal)
        self._process.send_signal(number)
        if number == _signal_number(None):
            self._process.wait()
            self._process.close()
        else:
            # as slow as the Docker API: two equal signals at once would merge into one
            time.sleep(_SIGNAL_PACE_SECONDS)

    def wait(self, *, timeout: float) -> dict[str, int]:
        """Wait for the first process; its status as a shell would report it."""
        self._process.wait(timeout_seconds=timeout)
        self.reload()
        return {"StatusCode": self.attrs["State"]["ExitCode"]}

    def restart(self, *, timeout: float) -> None:
        """SIGTERM, after `timeout` seconds SIGKILL, and the same command again."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_seconds=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.close()
        self._start()

    def remove(self, *, force: bool) -> bool:
        """End what runs and forget its files; true, since a finalizer of the wrappers asks."""
        if not force:
            self._process.wait()
        self._process.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return True

    def logs(self) -> bytes:
        """Return what the container has logged since it was created, restarts included."""
        return self._process.log_path.read_bytes()

    def exec_run(self, command: str) -> tuple[int, bytes]:
        """Run a command beside the container's own; its exit status and output."""
        argv = shlex.split(command)
        if argv[:2] == ["cat", "/proc/net/tcp"]:
            return 0, self._listening()
        if argv[0] == "python":
            argv[0] = sys.executable
        done = subprocess.run(
            argv,
            cwd=self._cwd,
            env={**os.environ, **self._env, SESSION_VARIABLE: str(self._process.pid)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout

    def _listening(self) -> bytes:
        """Answer the wrappers' look at the kernel's table, whose ports are not the published."""
        lines = (
            f"0: 0:{int(port.partition('/')[0]):04X} 0 0A"
            for port, outside in self._ports.items()
            if _listens(outside)
        )
        return "\n".join(lines).encode()


def _signal_number(given: str | int | None) -> int:
    return signal.Signals[given] if isinstance(given, str) else given or signal.SIGKILL


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_LOOPBACK, port)) == 0
