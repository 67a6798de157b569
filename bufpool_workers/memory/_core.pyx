# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=False, always_allow_keywords=False, initializedcheck=False
"""Slabs, free stacks, buffers and their counters.

A *slab* is one mapping cut into *slots* of one size class. A slot is free (on its class's stack),
lent (`lease` is the number of the lending), or in quarantine (given back while something still
views it). A `Buffer` is a handle: it knows its slot and the number of its own lending, so a slot
can be taken back without touching the handle, which from then on is a released one.

Every change of state happens inside one C call that keeps the GIL and runs no Python code. Signal
handlers, asynchronous exceptions and other threads run between bytecodes, so none of them can see
or cause half a change: no locks are needed, and no buffer is lost or lent twice.

An `Arena` belongs to one process. After a fork the child's pools begin with a new one; the
inherited arena stays mapped while inherited buffers use it, and counts nothing.
"""

cimport cython
from cpython.buffer cimport (PyBUF_WRITABLE, PyBUF_WRITE, PyBuffer_FillInfo, PyBuffer_Release,
                             PyObject_GetBuffer)
from cpython.contextvars cimport get_value
from cpython.exc cimport PyErr_Clear, PyErr_WarnEx
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject, PyTypeObject, destructor
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

import logging
import operator
import warnings
from contextvars import ContextVar

from bufpool_workers.errors import LimitExceeded, PoolClosed
from bufpool_workers.memory cimport _sys
from bufpool_workers.memory._mapping cimport (MEMFD, MLOCK, PLAIN, RANDOM, REGULAR, SECURE, Kind,
                                              Level, Mapping, locked_bytes, lowest_level,
                                              map_memory, page_bytes, show_protection, touch,
                                              unmap_memory)
# here, not where it is called: an exception that a signal raises in an import under way can leave the
# import's lock held, on which other threads then wait for ever
from bufpool_workers.memory import keystream
from bufpool_workers.memory.protection import unmet
from bufpool_workers.stats import FIELDS, PoolStats, Warmth
from bufpool_workers.settings import LEVELS, parse_size  # LEVELS: as the enum Level

cdef extern from "Python.h":
    bint PyLong_CheckExact(object)
    Py_ssize_t PyLong_AsSsize_t(object) noexcept

cdef object logger = logging.getLogger("bufpool_workers.memory")

cdef uint64_t generation = 1       # of this process; the child of a fork gets the next


cdef void after_fork_in_child() noexcept nogil:
    global generation
    generation += 1

if _sys.pthread_atfork(NULL, NULL, after_fork_in_child):
    raise MemoryError("no room for a fork handler")

include "_secure.pxi"
include "_arena.pxi"
include "_scope.pxi"
include "_buffer.pxi"


def label(Py_ssize_t nbytes):
    """The name of a size class in statistics and metrics: 4096 is "4kb"."""
    for unit, name in ((1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")):
        if nbytes >= unit and nbytes % unit == 0:
            return f"{nbytes // unit}{name}"
    return f"{nbytes}b"


cdef Arena NO_ARENA = Arena("", REGULAR, (), 0, True, PLAIN, False)
NO_ARENA.made_in = NO_ARENA.open_in = 0


@cython.final
@cython.no_gc_clear     # finalizers in the same cycle may use it
cdef class BufferPool:
    """A pool of one kind ("regular", "secure" or "random"), its bounds, and its memory.

    One pool serves all threads of its process; after a fork the child's begins empty.
    """

    cdef Arena arena
    cdef Kind which
    cdef bint closed, lend_at_limit
    cdef Level least
    cdef object prepare, locate
    cdef readonly str kind
    cdef readonly tuple size_classes
    cdef readonly tuple labels
    cdef readonly Py_ssize_t max_bytes
    cdef readonly Py_ssize_t max_buffer_bytes
    cdef readonly dict warm_levels     # size class: count

    def __cinit__(self, str kind, *, tuple size_classes not None, Py_ssize_t max_bytes,
                  Py_ssize_t max_buffer_bytes, dict warm=None, bint lend_at_limit=True,
                  str secure_level="any", prepare=None, locate=None):
        kinds = {"regular": REGULAR, "secure": SECURE, "random": RANDOM}
        if kind not in kinds:
            raise ValueError(f"a pool of kind {kind!r}: one of {', '.join(kinds)} is needed")
        bounds = (0, *size_classes, UNBOUNDED // 2)
        if not all([a < b for a, b in zip(bounds, bounds[1:])]):
            raise ValueError(f"{kind} pool: size classes must be above 0 and increase")
        self.kind = kind
        self.which = kinds[kind]
        self.least = <Level><int>{"any": PLAIN, "mlock": MLOCK, "memfd": MEMFD}[secure_level]
        if self.which == REGULAR:
            self.least = PLAIN
        self.size_classes = size_classes
        self.labels = (*map(label, size_classes), "larger")
        self.max_bytes, self.max_buffer_bytes = max_bytes, max_buffer_bytes
        self.warm_levels = warm or {}
        self.lend_at_limit, self.prepare, self.locate = lend_at_limit, prepare, locate
        self.arena = NO_ARENA

    cdef Arena here(self):
        """The arena of this process, made at the first use and again after a fork."""
        if self.closed:
            raise PoolClosed(f"{self.kind} pool: closed")
        if self.arena.made_in != generation:
            self.arena = Arena(self.kind, self.which, self.size_classes, self.max_bytes,
                               self.lend_at_limit, self.least, self.locate is not None)
            if self.prepare is not None:
                try:
                    self.prepare(self)
                except BaseException:
                    self.arena = NO_ARENA      # the next use prepares again
                    raise
        return self.arena

    cdef Py_ssize_t size_asked(self, nbytes) except -1:
        if isinstance(nbytes, str):
            nbytes = self.size_in(nbytes)
        elif isinstance(nbytes, bool):
            raise TypeError(f"{self.kind} pool: a size in bytes is an int, not bool")
        nbytes = operator.index(nbytes)
        if nbytes < 0:
            raise ValueError(f"{self.kind} pool: {nbytes} bytes asked, the least is 0")
        if nbytes > self.max_buffer_bytes:
            raise LimitExceeded(f"{self.kind} pool: {nbytes} bytes asked, the most for one buffer "
                                f"is {self.max_buffer_bytes} (bufpool_max_buffer_bytes)")
        return nbytes

    cdef object size_in(self, str text):
        try:
            return parse_size(text)
        except ValueError:
            if self.which == REGULAR:
                raise
        # what is no size may be the secret itself: it is not quoted, and in no exception's context
        raise ValueError(f'{self.kind} pool: a size is an int or text such as "64KiB"')

    cdef inline Buffer lend(self, object nbytes):
        cdef Py_ssize_t n = PyLong_AsSsize_t(nbytes) if PyLong_CheckExact(nbytes) else -1
        if not 0 <= n <= self.max_buffer_bytes:
            PyErr_Clear()
            n = self.size_asked(nbytes)
        if self.which == RANDOM:
            prepare_random(n, self.least)
        cdef Arena arena = self.arena
        if arena.open_in != generation:
            arena = self.here()
        if self.locate is not None:
            return self.lend_located(arena, n)
        return self.lend_from(arena, n)

    cdef inline Buffer lend_from(self, Arena arena, Py_ssize_t n):
        cdef Buffer buffer = Buffer.__new__(Buffer)
        buffer.slot = arena.lend(n, scope_number())
        buffer.lease = buffer.slot.lease
        buffer.arena = arena
        if self.which == RANDOM and is_large(n):
            fill_large(buffer)
        return buffer

    cdef Buffer lend_located(self, Arena arena, Py_ssize_t n):
        cdef str place = self.locate()
        cdef Buffer buffer = self.lend_from(arena, n)
        arena.places[<size_t>buffer.slot] = place
        return buffer

    def acquire(self, nbytes):
        """Lend a buffer of exactly `nbytes` (an int, or text like "64KiB")."""
        return self.lend(nbytes)

    def stats(self):
        """This process's numbers, per size class too."""
        return PoolStats.of_classes(self.labels, self.counters())

    def warm(self, *, double seconds=2.0):
        """Map and touch what `bufpool_warm` names, all buffers of a class held at once.

        What isn't reached within `seconds` is mapped later, when it is asked for. Warming again
        maps nothing that is there. Raises LimitExceeded when it does not fit under the cap.
        """
        cdef Arena arena = self.here()
        cdef double deadline = now() + seconds
        if self.which == RANDOM and self.warm_levels:
            prepare_random(1, self.least)
        buffers = nbytes = 0
        complete = True
        for size, count in self.warm_levels.items():
            done = arena.warm(&arena.classes[self.size_classes.index(size)], count, deadline)
            buffers += done
            nbytes += done * size
            complete = complete and done == count
        return Warmth(buffers, nbytes, complete)

    def trim(self, *, bint all_idle=True):
        """Give idle memory above the warm level back to the system; returns its bytes.

        All of it, or without `all_idle` what was not needed since the last time.
        """
        return self.here().shrink(GROWN, all_idle)

    def bind_counters(self, block, offsets):
        """Keep the counters in `block`, an object with a writable buffer, from now on.

        `offsets` are in bytes, one for each label and, within it, each of FIELDS. The block is
        held (it can't be closed or resized) until the pool is bound elsewhere.
        """
        # ints from here on: those that run Python code could give another value the next time
        offsets = tuple(map(operator.index, offsets))
        self.here().bind(block, offsets)

    def counters(self):
        """A tuple of floats in the order of FIELDS for each label, all of the same moment."""
        cdef Arena arena = self.arena if self.closed else self.here()
        return [tuple([arena.classes[i].count[j][0] for j in range(<int>NFIELDS)])
                for i in range(arena.nclasses)]

    def close(self):
        """Lend no more; regular buffers that are out stay valid, their memory goes when they do.

        Secure and random ones are taken back and overwritten, as at the end of a task.
        """
        if not self.closed:
            self.here().open_in = 0
            self.closed = True
            if self.which != REGULAR:
                self.arena.reclaim(0, True)
            self.arena.shrink(WARM, True)
            if self.arena.damaged >= 0:
                self.arena.report_damage()


include "_installed.pxi"
