"""The `bufpool` command, and scripts, where Celery and what it brings can't be imported."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import LocalProcess

_ABSENT = ("celery", "kombu", "billiard", "vine", "redis")
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({_ABSENT}))\n"
_COMMAND = BLOCK + "from bufpool_workers.console.main import bufpool; bufpool(prog_name='bufpool')"


def run_bufpool(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return _run(_COMMAND, *arguments, **environ)


def run_script(script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return _run(BLOCK + script, **environ)


def serve(log: Path, *arguments: object, **environ: str) -> LocalProcess:
    """Start `bufpool serve` on a free port of loopback."""
    command = [sys.executable, "-c", _COMMAND, "serve", "--port=0", *map(str, arguments)]
    return LocalProcess(command, log=log, env=environ)


def url_of(server: LocalProcess) -> str:
    """Return the address that the command prints once it listens."""
    (found,) = server.wait_for_log(r"^metrics at (https?://\S+)$")
    url: str = found[1]
    return url


def _run(code: str, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
