"""Helpers for the tests of programs that use this package.

As pytest fixtures they are in `bufpool_workers.pytest_plugin`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bufpool_workers import memory
from bufpool_workers.errors import DamagedToken, NotSealed
from bufpool_workers.runtime import PlainHost, current_runtime
from bufpool_workers.settings import Settings

__all__ = [  # noqa: RUF022 - in reading order
    # the process
    "reset",
    "configure",
    # sealed tasks
    "keys_in_memory",
    "seal_for_test",
    "plain_values",
    # buffers
    "no_leaked_buffers",
]


def reset() -> None:
    """Forget the apps that `setup` was called with, their settings, pools, keys and directory.

    A process has one configuration, and a second one in it is an error: a test-suite that makes
    many apps with different settings calls this between them. Secure and random buffers that are
    out are taken back, and counters begin at zero.
    """
    current_runtime().reset()


def configure(settings: Settings) -> None:
    """Reset, and give this process settings without an app."""
    reset()
    current_runtime().add_host(PlainHost("bufpool_workers.testing", settings))


@contextmanager
def keys_in_memory() -> Iterator[str]:
    """Seal to a new key, and open with it, for the length of a `with`; yield its public text.

    It lies in memory only, and stands in for the keys of all settings in this process and its
    forks: `seal` without a `public_key` seals to it.
    """
    from bufpool_workers.sealing.keyring import Keyring  # noqa: PLC0415 - loads cryptography

    runtime = current_runtime()
    before, runtime.keys.of_test = runtime.keys.of_test, Keyring.in_memory()
    try:
        yield runtime.keys.of_test[1]
    finally:
        runtime.keys.of_test = before


def seal_for_test(secret: Any, *, task: Any, argument: str) -> str:
    """Return a token of `seal` for the keys of `keys_in_memory`; RuntimeError outside of it."""
    from bufpool_workers.runtime.keys import seal  # noqa: PLC0415 - loads cryptography

    if current_runtime().keys.of_test is None:
        raise RuntimeError(
            "seal_for_test needs keys: `with bufpool_workers.testing.keys_in_memory():`, or the "
            "fixture bufpool_keys"
        )
    return seal(secret, task=task, argument=argument)


@contextmanager
def plain_values() -> Iterator[None]:
    """Call sealed tasks with plain values in this process, for the length of a `with`.

    The body gets them as it gets a secret, in a secure buffer; a str is taken as UTF-8. Tokens are
    opened as ever. A task's function may be called without its task, and without an app. Nothing
    else changes: messages are checked, and no plain value is published.
    """
    runtime = current_runtime()
    before, runtime.open_plain = runtime.open_plain, _buffer_of_plain
    try:
        yield
    finally:
        runtime.open_plain = before


def _buffer_of_plain(value: object) -> memory.Buffer | None:
    """Return a secure buffer with a plain value; None for a token, and for what is no value."""
    if isinstance(value, str):
        if _is_token(value):
            return None
        value = value.encode("utf-8", "surrogatepass")
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # asked, not known
    except TypeError:
        return None
    with view:
        buffer = memory.secure_buffer(view.nbytes)
        if view.nbytes:
            with memoryview(buffer) as target, view.cast("B") as source:
                target[:] = source
    return buffer


def _is_token(text: str) -> bool:
    """Return whether a text is a token, or was meant to be one."""
    from bufpool_workers.sealing.token import Token  # noqa: PLC0415 - not in every process

    try:
        Token.parse(text, where="")
    except NotSealed:
        return False
    except DamagedToken:
        return True
    return True


@contextmanager
def no_leaked_buffers() -> Iterator[None]:
    """Raise AssertionError if a `with` leaves buffers behind.

    Those are buffers that are still out, and those that were dropped without a release, or whose
    views outlived them: they warn, and count as reclaims and escapes.
    """
    before = current_runtime().pools.stats()
    yield
    gc.collect()
    after = current_runtime().pools.stats()
    leaks = []
    for kind in ("regular", "secure", "random"):
        one, other = getattr(before, kind), getattr(after, kind)
        for name, meaning in (
            ("in_use", "still out"),
            ("reclaims", "dropped, or held when their task ended"),
            ("escapes", "outlived by views"),
        ):
            if (count := getattr(other, name) - getattr(one, name)) > 0:
                leaks.append(f"{count} {kind} {meaning}")
    if leaks:
        raise AssertionError(f"buffers leaked: {'; '.join(leaks)}")
