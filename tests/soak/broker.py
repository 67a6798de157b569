"""A Redis that can be paused and restarted and forgets nothing that it has confirmed."""

import shutil
import signal
import tempfile
from pathlib import Path
from typing import Self

from support.processes import LocalProcess
from support.redis_server import find_redis, wait_for_redis


class DurableRedis:
    """A server on a unix socket that appends each write to its file before it answers."""

    def __init__(self) -> None:
        shm = Path("/dev/shm")  # noqa: S108 - a private folder in it: syncing costs nothing there
        self._folder = Path(tempfile.mkdtemp(prefix="soak-", dir=shm if shm.is_dir() else None))
        self.socket = self._folder / "socket"
        self.url = f"redis+socket://{self.socket}?virtual_host=0"
        self._argv = [find_redis().path, "--port", "0", "--unixsocket", str(self.socket)]
        self._argv += ["--dir", str(self._folder), "--save", ""]
        self._argv += ["--appendonly", "yes", "--appendfsync", "always"]
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.close()
        shutil.rmtree(self._folder)

    def _start(self) -> None:
        self._process = LocalProcess(self._argv, log=self._folder / "log", cwd=self._folder)
        wait_for_redis(self._process, unix_socket_path=str(self.socket))

    def pause(self) -> None:
        """Stop answering."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill the server and start another one with what it had."""
        self._process.close()
        self._start()
