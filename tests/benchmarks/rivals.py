"""What people write when they want to reuse memory, each as well as it is usually written."""

import ctypes
import ctypes.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import LifoQueue


class ListPool:
    """A list as a stack; append and pop are atomic, nothing is counted or checked."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._free = [bytearray(nbytes)]

    def get(self) -> bytearray:
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self._nbytes)

    def put(self, buffer: bytearray) -> None:
        self._free.append(buffer)

    @contextmanager
    def lend(self) -> Iterator[bytearray]:
        buffer = self.get()
        try:
            yield buffer
        finally:
            self.put(buffer)


class CountedPool:
    """The same with a lock, two counters and a class of leases: what one ends up with."""

    def __init__(self, nbytes: int) -> None:
        self.pool = ListPool(nbytes)
        self.lock = threading.Lock()
        self.gets = self.puts = 0

    def lend(self) -> "Lease":
        with self.lock:
            self.gets += 1
            return Lease(self, self.pool.get())


class Lease:
    __slots__ = ("_buffer", "_owner")

    def __init__(self, owner: CountedPool, buffer: bytearray) -> None:
        self._owner, self._buffer = owner, buffer

    def __enter__(self) -> bytearray:
        return self._buffer

    def __exit__(self, *_: object) -> None:
        with self._owner.lock:
            self._owner.puts += 1
            self._owner.pool.put(self._buffer)


def filled_queue(nbytes: int) -> "LifoQueue[bytearray]":
    queue: LifoQueue[bytearray] = LifoQueue()
    queue.put(bytearray(nbytes))
    return queue


def libsodium() -> ctypes.CDLL | None:
    """libsodium for its sodium_malloc and sodium_free, or None where it isn't installed."""
    if (name := ctypes.util.find_library("sodium")) is None:
        return None
    library = ctypes.CDLL(name)
    library.sodium_init()
    library.sodium_malloc.restype = ctypes.c_void_p
    library.sodium_malloc.argtypes = [ctypes.c_size_t]
    library.sodium_free.argtypes = [ctypes.c_void_p]
    return library
