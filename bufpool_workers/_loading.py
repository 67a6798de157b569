"""Imports that neither a signal nor a fork can break.

An exception that a signal handler raises in an import can leave the import's lock held, on which
other threads then wait for ever. A fork copies a lock that another thread holds: the child waits
for ever too.
"""

from __future__ import annotations

import logging  # noqa: F401 - see _lock
import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from threading import Event, RLock, Thread
from traceback import walk_tb
from types import FrameType

# Handlers run in the reverse of the order in which they were registered. Ours runs before that of
# logging, which would else hold its lock while ours waits for an import that makes a logger.
_lock = RLock()
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


def run(work: Callable[[], object]) -> None:
    """Run `work`, which imports, to its end; raise what it raises.

    A thread does it, since signal handlers run in the main one (under gevent it is a greenlet, and
    a signal can still interrupt it). A fork waits for it, as for the locks of logging.
    """
    errors: list[BaseException] = []
    done = Event()

    def in_thread() -> None:
        try:
            with _lock:
                work()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)
        finally:
            done.set()

    # no daemon, even if a daemon asks: an exit must wait for the import's end
    thread = Thread(target=in_thread, name="bufpool-import", daemon=False)
    try:
        try:
            thread.start()
        except RuntimeError as error:
            if not _is_refusal(error):
                raise
            # none begins any more: at an exit from Python 3.12 on, or at the system's limit
            in_thread()
        # Before Python 3.13, a join that is interrupted takes the thread for ended: none does so
        # before the import's end. Then a join, since a caller may fork, and no thread must be left.
        done.wait()
        if thread.ident is not None:
            thread.join()
    except (KeyError, RuntimeError) as error:
        # the clean-ups of `threading` fail so where a handler has raised
        if _frame_of(error).f_globals is vars(threading) and error.__context__ is not None:
            raise error.__context__ from None
        raise
    if errors:
        raise errors.pop()


def _is_refusal(error: BaseException) -> bool:
    """Return whether `start` raised it itself, and no handler in it."""
    return _frame_of(error).f_code is Thread.start.__code__


def _frame_of(error: BaseException) -> FrameType:
    """Return the frame that raised an error."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame


def load(*modules: str) -> None:
    """Import those of the modules that are not imported yet."""
    missing = [name for name in modules if name not in sys.modules]
    if missing:
        run(lambda: [import_module(name) for name in missing])
