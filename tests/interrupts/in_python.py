"""Pools as one writes them in Python, to be measured by the same storm."""

import threading
from contextlib import contextmanager

NBYTES = 64
MINE, OTHERS = b"mine", b"them"


class ListPool:
    """Buffers on a list, taken and given back in try and finally."""

    name = "list: try, finally"

    def __init__(self):
        self.free = []
        self.shared = 0
        self.counts = {"gets": 0, "puts": 0}
        self.made = 0

    def count(self, event):
        self.counts[event] += 1

    def take(self):
        if self.free:
            block = self.free.pop()
        else:
            block = bytearray(NBYTES)
            self.made += 1
        self.count("gets")
        return block

    def put(self, block):
        self.free.append(block)
        self.count("puts")

    def use(self):
        block = self.take()
        try:
            self.work(block)
        finally:
            self.put(block)

    def work(self, block):
        block[:4] = MINE
        self.shared += block[:4] != MINE

    def use_again(self):
        block = self.take()
        block[:4] = OTHERS
        self.put(block)

    def out(self):
        return self.made - len(set(map(id, self.free)))

    def miscounted(self):
        return abs(self.counts["gets"] - self.counts["puts"])

    def drain(self):
        return self.free


class GeneratorPool(ListPool):
    """The same behind `@contextmanager`."""

    name = "list: @contextmanager"

    @contextmanager
    def lend(self):
        block = self.take()
        try:
            yield block
        finally:
            self.put(block)

    def use(self):
        with self.lend() as block:
            self.work(block)


class Lease:
    """A context manager written as a class."""

    def __init__(self, pool):
        self.pool = pool

    def __enter__(self):
        self.block = self.pool.take()
        return self.block

    def __exit__(self, *_):
        self.pool.put(self.block)


class ClassPool(ListPool):
    """The same behind a context manager written as a class."""

    name = "list: __enter__, __exit__"
    lease = Lease

    def use(self):
        with self.lease(self) as block:
            self.work(block)


class LockedPool(ClassPool):
    """With a lock around each change; a reentrant one, for handlers that use the pool."""

    name = "list: and a lock"

    def __init__(self):
        super().__init__()
        self.lock = threading.RLock()

    def take(self):
        with self.lock:
            return super().take()

    def put(self, block):
        with self.lock:
            super().put(block)


class SafeLease(Lease):
    """One that also gives back in its finalizer what it still has."""

    block = None

    def __exit__(self, *_):
        self.pool.put(self.block)
        self.block = None

    def __del__(self):
        if self.block is not None:
            self.pool.put(self.block)


class FinalizerPool(ClassPool):
    """The mending that comes to mind first: it loses less, and can lend twice."""

    name = "list: and __del__"
    lease = SafeLease


POOLS = (ListPool, GeneratorPool, ClassPool, LockedPool, FinalizerPool)
