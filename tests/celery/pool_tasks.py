"""Tasks that use pools and tell what became of them, for the tests of real workers."""

import hashlib
import os
import signal
import time
from typing import Any

from celery import current_app, shared_task

import bufpool_workers as bp
from bufpool_workers import KiB

_kept: list[Any] = []


def tell(word: str) -> None:
    """Tell the test, which takes it with `wait_told`, how far this task is.

    The test may answer with a signal at once; it waits until the client is done. For redis-py 8
    asks for its telemetry after each command, and loses whatever is raised there: a soft time
    limit, too.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        current_app.backend.client.rpush(f"told-{word}", 1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _numbers() -> dict[str, Any]:
    stats = bp.stats()
    names = [name for name in stats.total.__dataclass_fields__ if name != "sizes"]
    found: dict[str, Any] = {"pid": os.getpid()}
    for kind in ("regular", "secure", "random", "total"):
        pool = getattr(stats, kind)
        found[kind] = {name: getattr(pool, name) for name in names}
        found[kind]["in_use"] = pool.in_use
        found[kind]["idle_by_size"] = {
            label: size.idle for label, size in pool.sizes.items() if size.idle
        }
    return found


@shared_task
def numbers() -> dict[str, Any]:
    """This process's pid and pool statistics."""
    return _numbers()


@shared_task
def borrow(size: int, count: int) -> dict[str, Any]:
    """Hold `count` buffers at once, and tell the numbers while they are held."""
    held = [bp.buffer(size) for _ in range(count)]
    found = _numbers()
    for buffer in held:
        buffer.release()
    return found


@shared_task
def borrow_often(size: int, times: int) -> None:
    """Take and give back one buffer again and again."""
    for _ in range(times):
        bp.buffer(size).release()


@shared_task
def keep_buffer(size: int) -> None:
    """End with a buffer that is neither released nor dropped."""
    _kept.append(bp.buffer(size))


@shared_task
def keep_buffer_and_raise(size: int) -> None:
    """Fail with a buffer that is neither released nor dropped."""
    _kept.append(bp.buffer(size))
    raise LookupError("on purpose")


@shared_task
def keep_view(size: int) -> None:
    """End with a buffer and a view of it that are neither released nor dropped."""
    buffer = bp.buffer(size)
    view = memoryview(buffer)
    view[:] = b"v" * size
    _kept.extend((buffer, view))


@shared_task
def kept_view_is_intact(size: int) -> bool:
    """Overwrite everything that the pool can lend, then look at the view that was kept."""
    held = [bp.buffer(size) for _ in range(8)]
    for buffer in held:
        buffer[:] = b"x" * size
    for buffer in held:
        buffer.release()
    return bytes(_kept[-1]) == b"v" * size


@shared_task
def drop_kept() -> None:
    """Drop what earlier tasks kept."""
    _kept.clear()


@shared_task
def kept_is_released() -> list[bool]:
    """Tell of each buffer that was kept whether it still can be used."""
    return [buffer.released for buffer in _kept]


@shared_task
def hold_until_released(size: int, gate: str) -> bool:
    """Hold a buffer until the test opens the gate; tell whether its content stayed."""
    with bp.buffer(size) as buffer:
        buffer[:] = b"h" * size
        tell("holding")
        opened = current_app.backend.client.blpop([gate], timeout=30)
        return opened is not None and bytes(buffer) == b"h" * size


@shared_task
def keep_beside_eager(size: int) -> dict[str, Any]:
    """Run a task that keeps a buffer inside this one, which holds a buffer of its own."""
    with bp.buffer(size) as buffer:
        buffer[:] = b"o" * size
        keep_buffer.apply(args=[size])
        found = _numbers()
        found["inner_released"] = _kept[-1].released
        found["outer_intact"] = bytes(buffer) == b"o" * size
    return found


@shared_task
def spin(size: int) -> None:
    """Take and give back buffers of every kind until something from outside ends it."""
    tell("spinning")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with bp.buffer(size), bp.secure_buffer(64), bp.random_buffer(64):
            bp.buffer(size).release()


@shared_task
def spin_decorated() -> None:
    """Call a decorated function until something from outside ends it."""
    tell("spinning")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        _decorated(b"abc")


@bp.pooled_buffer(4 * KiB)
def _decorated(content: bytes, *, buf: bp.Buffer) -> str:
    buf[: len(content)] = content
    return hashlib.sha256(buf[: len(content)]).hexdigest()


@shared_task
def use_alone(size: int, mark: int) -> list[Any]:
    """Write to a buffer, let other tasks run, and tell whether it was this task's alone."""
    with bp.buffer(size) as buffer:
        buffer[:] = bytes([mark]) * size
        time.sleep(0)  # threads and greenlets change here
        return [os.getpid(), bytes(buffer) == bytes([mark]) * size]
