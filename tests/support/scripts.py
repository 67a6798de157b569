"""Short programs, each in a process of its own."""

import os
import subprocess
import sys

_SECONDS = 60


def run_script(script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script of Python with these variables; return how it ended, and what it printed."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
