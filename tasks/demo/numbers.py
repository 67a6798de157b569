"""The demo's own task: it fetches the numbers of every child."""

import os
import time
from pathlib import Path
from typing import Any

import bufpool_workers as bp
from tasks.app import app

WAIT_SECONDS = 20


@app.task
def numbers(folder: str, children: int) -> dict[str, Any]:
    """Return this child's numbers once `children` of them run this: then each child has one."""
    Path(folder, str(os.getpid())).touch()
    deadline = time.monotonic() + WAIT_SECONDS
    while len(list(Path(folder).iterdir())) < children:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {children} children after {WAIT_SECONDS} s")
        time.sleep(0.01)
    total = bp.stats().total
    return {
        "pid": os.getpid(),
        "gets": total.gets,
        "hits": total.hits,
        "in_use": total.in_use,
        "escapes": total.escapes,
        "reclaims": total.reclaims,
        "sizes": {
            label: [stats.gets, stats.bytes_allocated, stats.bytes_reused]
            for label, stats in total.sizes.items()
        },
    }
