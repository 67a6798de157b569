"""Runs Python with a limit on locked memory that binds root, too."""

import os
import resource
import subprocess
import sys

import pytest

# PR_CAPBSET_DROP, CAP_IPC_LOCK: who holds it may lock any amount, root for one
WITH_LOCK_LIMIT = (
    "import ctypes, os, resource, sys;"
    "limit = int(sys.argv[1]);"
    "resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit));"
    "ctypes.CDLL(None).prctl(24, 14, 0, 0, 0);"
    "os.execv(sys.argv[2], sys.argv[2:])"
)


real_mlock = pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="the address sanitizer makes mlock(2) do nothing",
)


def run_limited(code: str, *, limit: int) -> str:
    """Run `code` where `limit` bytes may be locked; give what it prints.

    Skips the test where fewer may be locked anyway.
    """
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most != resource.RLIM_INFINITY and most < limit:
        pytest.skip(f"only {most} bytes may be locked here")
    command = [sys.executable, "-c", WITH_LOCK_LIMIT, str(limit), sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
