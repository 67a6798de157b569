"""Imports that neither a signal nor a fork can break.

An exception that a signal handler raises in an import can leave the import's lock held, on which
other threads then wait for ever. A fork copies a lock that another thread holds: the child waits
for ever too.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module

_lock = threading.Lock()
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


def load(*modules: str) -> None:
    """Import the modules that are not imported yet.

    It is done in a thread, since signal handlers run in the main one, and no fork begins
    meanwhile. Raises what an import raises.
    """
    missing = [name for name in modules if name not in sys.modules]
    if not missing:
        return
    errors: list[BaseException] = []

    def work() -> None:
        with _lock:
            try:
                for name in missing:
                    import_module(name)
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

    thread = threading.Thread(target=work, name="bufpool-import")
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()
