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
from bufpool_workers.memory.stats import FIELDS, PoolStats, Warmth
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


def label(Py_ssize_t nbytes):
    """The name of a size class in statistics and metrics: 4096 is "4kb"."""
    for unit, name in ((1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")):
        if nbytes >= unit and nbytes % unit == 0:
            return f"{nbytes // unit}{name}"
    return f"{nbytes}b"


cdef object scope_variable = ContextVar("bufpool_scope")
cdef uint64_t last_scope = 0
cdef bint scopes_used = False


@cython.final
cdef class Scope:
    """One task at work: what it acquires and still holds at its end is reclaimed."""

    cdef uint64_t number
    cdef readonly Scope outer
    cdef readonly str name

    def __cinit__(self, str name not None, Scope outer):
        global last_scope
        last_scope += 1
        self.number = last_scope
        self.name = name
        self.outer = outer


cdef inline uint64_t scope_number():
    """The number of the task at work in this context, 0 for none."""
    if not scopes_used:
        return 0
    scope = get_value(scope_variable)
    return 0 if scope is None else (<Scope>scope).number


def enter_scope(str name):
    """Begin a task in this context; scopes nest, as eager tasks do."""
    global scopes_used
    scopes_used = True
    scope_variable.set(Scope(name, get_value(scope_variable)))


def outermost_scope():
    """The name of the first task that began in this context and was not ended; None for none."""
    scope = get_value(scope_variable)
    if scope is None:
        return None
    while (<Scope>scope).outer is not None:
        scope = (<Scope>scope).outer
    return (<Scope>scope).name


cdef Slot NO_SLOT
NO_SLOT.lease = UNBOUNDED          # so that a handle made by hand is a released one


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Buffer:
    """A lent piece of a pool's memory, exactly as long as was asked; a context manager.

    It supports the buffer protocol (writable, contiguous, format "B"). After release every access
    raises ValueError. Memory that anything still views is never handed out again: see `release`.
    """

    cdef Arena arena
    cdef Slot* slot
    cdef uint64_t lease

    def __cinit__(self):
        self.slot = &NO_SLOT

    def __init__(self):
        raise TypeError("a Buffer comes from buffer() or a pool's acquire()")

    cdef int check(self) except -1:
        if self.slot.lease != self.lease:
            raise ValueError("buffer is released")
        if self.arena.kind != REGULAR and self.arena.made_in != generation:
            raise ValueError(f"{self.arena.name} pool: the buffer belongs to the process that "
                             "acquired it, before the fork")
        return 0

    def __getbuffer__(self, Py_buffer* view, int flags):
        self.check()
        PyBuffer_FillInfo(view, self, self.slot.memory, self.slot.nbytes, 0, flags)
        self.slot.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        cdef Slot* slot = self.slot
        slot.exports -= 1
        if slot.exports == 0 and slot.lease == 0 and self.arena.made_in == generation:
            self.arena.last_view_died(slot)

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, kind, error, trace):
        if self.slot.lease == self.lease:
            self.leave(None)

    cdef inline int leave(self, code) except -1:
        """End the lending, whether or not views are left."""
        if self.arena.kind != REGULAR:
            return self.leave_secure(code)
        return self.leave_any(code)

    cdef inline int leave_any(self, code) except -1:
        if self.slot.exports == 0:
            self.arena.take_back(self.slot)
            return 0
        if self.arena.made_in == generation:     # else the counter may be the parent's, shared
            self.slot.size_class.count[<int>ESCAPES][0] += 1
        where, place = self.arena.acquired_at(self.slot), self.arena.place(self.slot)
        self.arena.take_back(self.slot)
        note_escape(self.arena.name, place)
        return warn(f"{self.arena.name} pool: a view outlived its buffer of {self.slot.nbytes} "
                    f"bytes{where}; its memory is kept apart until the last view dies", code)

    cdef int leave_secure(self, code) except -1:
        if self.arena.kind == RANDOM:
            prepare_random(self.slot.nbytes, self.arena.least)
            if self.slot.lease != self.lease:       # another thread released it meanwhile
                return 0
        self.leave_any(code)
        return self.arena.report_damage() if self.arena.damaged >= 0 else 0

    def release(self):
        """Give the memory back to its pool.

        Raises ValueError when that was done before, and BufferError while views of the buffer
        are alive (a slice, a memoryview, a numpy array), as bytearray and mmap do.
        """
        if self.slot.lease != self.lease:
            raise ValueError("buffer is released")
        if self.slot.exports:
            raise BufferError(f"{self.arena.name} pool: the buffer of {self.slot.nbytes} bytes has "
                              f"{self.slot.exports} live views")
        self.leave(None)

    def __len__(self):
        self.check()
        return self.slot.nbytes

    def __getitem__(self, key):
        return memoryview(self)[key]

    def __setitem__(self, key, value):
        memoryview(self)[key] = value

    def __repr__(self):
        if self.slot.lease != self.lease:
            return "<bufpool_workers.Buffer, released>"
        return f"<bufpool_workers.Buffer, {self.arena.name}, {self.slot.nbytes} bytes>"

    def __eq__(self, other):
        # identity: its content changes, and comparing secrets needs hmac.compare_digest; having
        # this and no hash makes it unhashable
        return self is other

    def __reduce__(self):
        raise TypeError("a Buffer cannot be pickled or copied: pass on bytes(buffer) instead")

    @property
    def nbytes(self):
        """The size that was asked for, in bytes."""
        return len(self)

    @property
    def capacity(self):
        """The size of the class it was taken from, in bytes; at least `nbytes`."""
        self.check()
        if self.slot.size_class.size == UNBOUNDED:
            return <Py_ssize_t>self.slot.slab.mapping.nbytes
        return self.slot.size_class.size

    @property
    def kind(self):
        """The kind of its pool: "regular", "secure" or "random"."""
        return None if self.arena is None else self.arena.name

    @property
    def released(self):
        """Whether it was given back."""
        return self.slot.lease != self.lease


@cython.final
@cython.no_gc
cdef class DropReport:
    """Says that a buffer was dropped, when this goes: with the current exception kept apart."""

    cdef Arena arena
    cdef Slot* slot

    def __dealloc__(self):
        message = (f"{self.arena.name} pool: a buffer of {self.slot.nbytes} bytes was dropped "
                   f"without release{self.arena.acquired_at(self.slot)}")
        if self.arena.damaged >= 0:
            self.arena.report_damage()
        warn(message, None)


cdef void drop(Arena arena, Slot* slot) noexcept:
    """Take back what nobody released, and report it."""
    arena.count_reclaim(slot)
    arena.take_back(slot)
    cdef DropReport report = DropReport.__new__(DropReport)
    report.arena, report.slot = arena, slot


# Not Cython's `__dealloc__`, around which the current exception is kept apart each time: that is a
# seventh of a lending. Buffers that were released need none of it.
cdef destructor free_handle = (<PyTypeObject*>Buffer).tp_dealloc


cdef void dealloc(PyObject* handle) noexcept:
    # no variable of type Buffer: counting references would free the handle once more
    cdef Slot* slot = (<Buffer>handle).slot
    if slot.lease == (<Buffer>handle).lease and (<Buffer>handle).arena.made_in == generation:
        drop((<Buffer>handle).arena, slot)
    free_handle(handle)

(<PyTypeObject*>Buffer).tp_dealloc = dealloc


cdef int fill_large(Buffer buffer) except -1:
    """Fill a random buffer that is more than a block from its first bytes, a key, as a block is.

    It runs Python code, so it comes after the change of state; a view keeps the memory in place.
    """
    try:
        with memoryview(buffer) as view:
            keystream.make_block(view)
    except BaseException:
        if buffer.slot.lease == buffer.lease:
            buffer.arena.take_back(buffer.slot)
        raise
    return 0


cdef int warn(str message, object code) except -1:
    """Emit a ResourceWarning at the caller's line, or at the function that `code` belongs to."""
    if code is None:
        PyErr_WarnEx(ResourceWarning, message.encode("utf-8", "backslashreplace"), 1)
    else:
        warnings.warn_explicit(message, ResourceWarning, code.co_filename, code.co_firstlineno)
    return 0


def leave(Buffer buffer not None, code):
    """Do what leaving a `with` does, with warnings that name the function of `code`."""
    if buffer.slot.lease == buffer.lease:
        buffer.leave(code)


cdef Arena NO_ARENA = Arena("", REGULAR, (), 0, PLAIN, False)
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
                               self.least, self.locate is not None)
            if self.prepare is not None:
                self.prepare(self)
        return self.arena

    cdef Py_ssize_t size_asked(self, nbytes) except -1:
        if isinstance(nbytes, str):
            nbytes = parse_size(nbytes)
        elif isinstance(nbytes, bool):
            raise TypeError(f"{self.kind} pool: a size in bytes is an int, not bool")
        nbytes = operator.index(nbytes)
        if nbytes < 0:
            raise ValueError(f"{self.kind} pool: {nbytes} bytes asked, the least is 0")
        if nbytes > self.max_buffer_bytes:
            raise LimitExceeded(f"{self.kind} pool: {nbytes} bytes asked, the most for one buffer "
                                f"is {self.max_buffer_bytes} (bufpool_max_buffer_bytes)")
        return nbytes

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
        buffer.slot = arena.lend(n, scope_number(), self.lend_at_limit)
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


def end_scope(str name not None, *pools):
    """End the innermost task of that name and take back what it still holds.

    Tasks inside it that were not ended end with it. All in one call, so that no exception comes
    in between; gives (kind, bytes, viewed, place) of each buffer.
    """
    cdef Scope innermost = get_value(scope_variable)
    cdef Scope scope = innermost
    cdef BufferPool pool
    for pool in pools:
        if pool is None:
            raise TypeError("a pool is needed, not None")
    while scope is not None and scope.name != name:
        scope = scope.outer
    if scope is None:
        return []
    cdef Scope last = scope.outer
    scope_variable.set(last)
    found = []
    while innermost is not last:
        for pool in pools:
            if pool.arena.made_in == generation:
                found += pool.arena.reclaim(innermost.number, False)
        innermost = innermost.outer
    for pool in pools:
        if pool.arena.damaged >= 0:
            pool.arena.report_damage()
        if pool.arena.beyond_cap:
            pool.arena.report_cap()
    return found


cdef BufferPool regular_pool, secure_pool, random_pool
cdef object installed = None
cdef object make_pools = None


cdef object escape_hook = None


def on_escape(hook):
    """Have `hook(kind, place)` called for each escape of a buffer acquired at a known place."""
    global escape_hook
    escape_hook = hook


def note_escape(str kind not None, str place):
    """Tell the hook of `on_escape`, if there is one and the place is known."""
    if place is not None and escape_hook is not None:
        escape_hook(kind, place)


def on_first_use(factory):
    """Have `factory` called when a buffer is asked for and no pools are installed."""
    global make_pools
    make_pools = factory


def install(pools not None):
    """Make these the pools of `buffer` and its siblings unless others are there; gives those."""
    global installed, regular_pool, secure_pool, random_pool
    if installed is None:
        regular_pool, secure_pool, random_pool = pools.regular, pools.secure, pools.random
        installed = pools
    return installed


def uninstall():
    """Forget the installed pools; buffers that are out stay valid."""
    global installed, regular_pool, secure_pool, random_pool
    installed = regular_pool = secure_pool = random_pool = None


def installed_pools():
    """The pools that `install` put in place, or None."""
    return installed


def buffer(nbytes):
    """Lend a buffer of exactly `nbytes` (an int, or text like "64KiB") from this process's pools.

    Its contents are undefined, as those of any reused memory. Raises TypeError or ValueError for
    what is no size, LimitExceeded beyond `bufpool_max_buffer_bytes`, MemoryError when the system
    has no memory. Costs tens of nanoseconds when the pool has one idle, and page faults when not.
    """
    if regular_pool is None:
        make_pools()
    return regular_pool.lend(nbytes)


def secure_buffer(nbytes):
    """As `buffer`, from the secure pool: zeroed when taken and again when given back."""
    if secure_pool is None:
        make_pools()
    return secure_pool.lend(nbytes)


def random_buffer(nbytes):
    """As `buffer`, from the random pool: random bytes, overwritten with others when given back."""
    if random_pool is None:
        make_pools()
    return random_pool.lend(nbytes)
