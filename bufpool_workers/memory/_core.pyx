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
from cpython.buffer cimport (PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release,
                             PyObject_GetBuffer)
from cpython.contextvars cimport get_value
from cpython.exc cimport PyErr_Clear, PyErr_WarnEx
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, realloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import operator
import warnings
from contextvars import ContextVar

from bufpool_workers.errors import LimitExceeded, PoolClosed
from bufpool_workers.memory cimport _sys
from bufpool_workers.memory._mapping cimport (RANDOM, REGULAR, SECURE, Kind, Mapping, map_memory,
                                              page_bytes, touch, unmap_memory)
from bufpool_workers.settings import parse_size

cdef extern from "Python.h":
    bint PyLong_CheckExact(object)
    Py_ssize_t PyLong_AsSsize_t(object) noexcept

cdef enum Field:
    GETS, PUTS, HITS, MISSES, DISCARDS, BYTES_ALLOCATED, BYTES_REUSED, ESCAPES, RECLAIMS,
    LIMIT_HITS, UNLOCKED, IDLE, HELD_BYTES, NFIELDS

FIELDS = ("gets", "puts", "hits", "misses", "discards", "bytes_allocated", "bytes_reused",
          "escapes", "reclaims", "limit_hits", "unlocked", "idle", "held_bytes")

cdef enum Keep:
    LOOSE     # one slot, mapped for one use
    GROWN     # mapped for a miss; trim gives it back
    WARM      # mapped by warm(); stays

cdef struct Slot:
    char* memory
    uint64_t lease         # 0: not lent
    uint64_t scope         # the task that took it; 0: none
    Py_ssize_t exports     # views alive now
    Py_ssize_t nbytes      # what this lending may see
    Py_ssize_t fresh       # random kind: leading bytes that nobody has seen
    Slab* slab

cdef struct Slab:
    Mapping mapping
    SizeClass* size_class
    Slot* slots
    Py_ssize_t nslots
    Keep keep
    Slab* next

cdef struct SizeClass:
    Py_ssize_t size        # the most that a slot lends
    Slot** free_slots      # a stack
    Py_ssize_t nfree
    Py_ssize_t room        # slots that the stack has room for: all that exist
    Py_ssize_t low         # the least nfree since the last trim
    double* count[<int>NFIELDS]

cdef Py_ssize_t GROWTH_BYTES = 64 * 1024
cdef Py_ssize_t TOUCH_BYTES = 4 * 1024 * 1024
cdef Py_ssize_t UNBOUNDED = (<size_t>-1) >> 1

cdef uint64_t generation = 1       # of this process; the child of a fork gets the next
cdef uint64_t last_lease = 0
cdef uint64_t last_scope = 0
cdef bint scopes_used = False
cdef object scope_variable = ContextVar("bufpool_scope")
cdef Slot NO_SLOT
NO_SLOT.lease = UNBOUNDED          # so that a handle made by hand is a released one


cdef void after_fork_in_child() noexcept nogil:
    global generation
    generation += 1

if _sys.pthread_atfork(NULL, NULL, after_fork_in_child):
    raise MemoryError("no room for a fork handler")


cdef double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + t.tv_nsec * 1e-9


cdef bint fill_random(char* memory, Py_ssize_t nbytes) noexcept nogil:
    """Random bytes from the kernel, 256 at a time as getentropy(3) asks."""
    cdef Py_ssize_t at = 0
    while at < nbytes:
        if _sys.getentropy(memory + at, min(256, nbytes - at)):
            return False
        at += 256
    return True


def label(Py_ssize_t nbytes):
    """The name of a size class in statistics and metrics: 4096 is "4kb"."""
    for unit, name in ((1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")):
        if nbytes >= unit and nbytes % unit == 0:
            return f"{nbytes // unit}{name}"
    return f"{nbytes}b"


@cython.final
cdef class Scope:
    """One task at work: what it acquires and still holds at its end is reclaimed."""

    cdef uint64_t number
    cdef readonly Scope outer
    cdef readonly str name

    def __init__(self, str name, Scope outer):
        global last_scope
        last_scope += 1
        self.number = last_scope
        self.name = name
        self.outer = outer


def enter_scope(str name):
    """Begin a task in this context; scopes nest, as eager tasks do."""
    global scopes_used
    scopes_used = True
    scope_variable.set(Scope(name, get_value(scope_variable)))


def leave_scope(str name):
    """End the innermost task of that name; gives every scope that ends with it, innermost first."""
    cdef Scope scope = get_value(scope_variable)
    ended = []
    while scope is not None:
        ended.append(scope)
        if scope.name == name:
            scope_variable.set(scope.outer)
            return ended
        scope = scope.outer
    return []


cdef inline bint is_idle(Slab* slab) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(slab.nslots):
        if slab.slots[i].lease or slab.slots[i].exports:
            return False
    return True


@cython.final
cdef class Arena:
    """What a pool holds in one process: slabs, free stacks, counters."""

    cdef SizeClass* classes        # the last one is unbounded and keeps no slots
    cdef Py_ssize_t nclasses
    cdef Slab* slabs
    cdef uint64_t made_in          # the process that may change anything here
    cdef uint64_t open_in          # the same, until the pool is closed
    cdef Kind kind
    cdef str name
    cdef Py_ssize_t held, most     # bytes in slabs that are kept, and their cap
    cdef double* private_block
    cdef Py_buffer shared
    cdef bint is_shared            # whether the counters lie in `shared`
    cdef dict places               # slot: where it was acquired; None unless debugging

    def __cinit__(self, str name, Kind kind, tuple sizes, Py_ssize_t most, bint debug):
        cdef Py_ssize_t i, j
        self.name, self.kind, self.most = name, kind, most
        self.made_in = self.open_in = generation
        self.places = {} if debug else None
        self.nclasses = len(sizes) + 1
        self.classes = <SizeClass*>calloc(self.nclasses, sizeof(SizeClass))
        self.private_block = <double*>calloc(self.nclasses * <int>NFIELDS, sizeof(double))
        if self.classes == NULL or self.private_block == NULL:
            raise MemoryError
        for i in range(self.nclasses):
            self.classes[i].size = sizes[i] if i < self.nclasses - 1 else UNBOUNDED
            for j in range(<int>NFIELDS):
                self.classes[i].count[j] = self.private_block + i * <int>NFIELDS + j

    def __dealloc__(self):
        cdef Slab* slab = self.slabs
        cdef Py_ssize_t i
        while slab != NULL:
            self.slabs = slab.next
            unmap_memory(&slab.mapping)
            free(slab.slots)
            free(slab)
            slab = self.slabs
        if self.classes != NULL:
            for i in range(self.nclasses):
                free(self.classes[i].free_slots)
        free(self.classes)
        free(self.private_block)
        if self.is_shared:
            PyBuffer_Release(&self.shared)

    cdef Slab* add_slab(self, SizeClass* c, Py_ssize_t nslots, Py_ssize_t size,
                        Keep keep) except NULL:
        """Map a slab and count it; the record of a slab that was given back serves again."""
        cdef Slab* slab = self.slabs
        cdef Py_ssize_t i, stride = (size + 63) // 64 * 64
        while slab != NULL and (slab.mapping.memory != NULL or slab.nslots != nslots):
            slab = slab.next
        if slab == NULL:
            slab = <Slab*>calloc(1, sizeof(Slab))
            if slab == NULL:
                raise MemoryError
            slab.slots = <Slot*>calloc(nslots, sizeof(Slot))
            if slab.slots == NULL:
                free(slab)
                raise MemoryError
            slab.nslots = nslots
            slab.next = self.slabs
            self.slabs = slab
        cdef void* stack
        if keep != LOOSE:
            stack = realloc(c.free_slots, (c.room + nslots) * sizeof(Slot*))
            if stack == NULL:
                raise MemoryError
            c.free_slots = <Slot**>stack
        if not map_memory(&slab.mapping, stride * nslots, self.kind):
            raise MemoryError(f"{self.name} pool: the system refused {stride * nslots} bytes")
        slab.size_class, slab.keep = c, keep
        for i in range(nslots):
            slab.slots[i].slab = slab
            slab.slots[i].memory = slab.mapping.memory + i * stride
            slab.slots[i].fresh = 0
        if keep == LOOSE:
            c.count[<int>BYTES_ALLOCATED][0] += slab.mapping.nbytes
            return slab
        for i in range(nslots):
            c.free_slots[c.nfree + i] = &slab.slots[nslots - 1 - i]
        c.nfree += nslots
        c.room += nslots
        c.count[<int>BYTES_ALLOCATED][0] += size * nslots
        c.count[<int>IDLE][0] += nslots
        c.count[<int>HELD_BYTES][0] += slab.mapping.nbytes
        self.held += slab.mapping.nbytes
        return slab

    cdef Py_ssize_t fitting(self, Py_ssize_t size) noexcept:
        """How many slots of that size may still be mapped under the cap, in whole pages."""
        cdef Py_ssize_t page = page_bytes()
        return (self.most - self.held) // page * page // ((size + 63) // 64 * 64)

    cdef Slot* slot_for_miss(self, SizeClass* c, Py_ssize_t nbytes, bint lend) except NULL:
        """A slot from memory mapped now, on no stack."""
        cdef Py_ssize_t nslots
        if c.size == UNBOUNDED:
            return &self.add_slab(c, 1, nbytes, LOOSE).slots[0]
        nslots = min(max(GROWTH_BYTES // c.size, 1), self.fitting(c.size))
        if nslots > 0:
            self.add_slab(c, nslots, c.size, GROWN)
            return self.pop(c)
        c.count[<int>LIMIT_HITS][0] += 1
        if not lend:
            raise LimitExceeded(f"{self.name} pool: {nbytes} bytes asked while {self.held} of at "
                                f"most {self.most} (bufpool_max_bytes) are held")
        return &self.add_slab(c, 1, c.size, LOOSE).slots[0]

    cdef inline Slot* pop(self, SizeClass* c) noexcept:
        c.nfree -= 1
        if c.nfree < c.low:
            c.low = c.nfree
        c.count[<int>IDLE][0] -= 1
        return c.free_slots[c.nfree]

    cdef int lend(self, Buffer buffer, Py_ssize_t nbytes, uint64_t scope,
                  bint lend_at_limit) except -1:
        """Put a slot of at least `nbytes` into the empty handle."""
        global last_lease
        cdef SizeClass* c = self.classes
        cdef Slot* slot
        while c.size < nbytes:
            c += 1
        if c.nfree:
            slot = self.pop(c)
            c.count[<int>HITS][0] += 1
            c.count[<int>BYTES_REUSED][0] += c.size
        else:
            slot = self.slot_for_miss(c, nbytes, lend_at_limit)
            c.count[<int>MISSES][0] += 1
        c.count[<int>GETS][0] += 1
        last_lease += 1
        slot.lease = buffer.lease = last_lease
        slot.scope = scope
        slot.nbytes = nbytes
        buffer.slot = slot
        buffer.arena = self
        if self.kind == SECURE:
            _sys.wipe(slot.memory, nbytes)
        elif self.kind == RANDOM and slot.fresh < nbytes:
            if not fill_random(slot.memory + slot.fresh, nbytes - slot.fresh):
                self.take_back(slot)
                raise OSError(f"{self.name} pool: the system gave no random bytes (getentropy)")
            slot.fresh = nbytes
        return 0

    cdef void take_back(self, Slot* slot) noexcept:
        """End a lending; the slot waits in quarantine while anything still views it."""
        slot.lease = 0
        if self.made_in != generation:
            return
        if self.kind == SECURE:
            _sys.wipe(slot.memory, slot.nbytes)
        elif self.kind == RANDOM:
            # what is written over the old bytes is what the next one to take the slot gets
            if not fill_random(slot.memory, slot.nbytes):
                _sys.wipe(slot.memory, slot.nbytes)
                slot.fresh = 0
        if slot.exports == 0:
            self.settle(slot)

    cdef void settle(self, Slot* slot) noexcept:
        """Make a slot that nobody lends or views free again."""
        cdef Slab* slab = slot.slab
        cdef SizeClass* c = slab.size_class
        c.count[<int>PUTS][0] += 1
        if slab.keep == LOOSE:
            c.count[<int>DISCARDS][0] += 1
            unmap_memory(&slab.mapping)
            return
        c.free_slots[c.nfree] = slot
        c.nfree += 1
        c.count[<int>IDLE][0] += 1
        if not self.open_in:
            c.count[<int>DISCARDS][0] += 1
            self.shrink(WARM, True)

    cdef Py_ssize_t shrink(self, Keep highest, bint all_idle) noexcept:
        """Unmap idle slabs, those not needed since the last time or all; gives their bytes."""
        cdef Slab* slab = self.slabs
        cdef SizeClass* c
        cdef Py_ssize_t i, n, before = self.held
        while slab != NULL:
            c = slab.size_class
            if (slab.mapping.memory != NULL and LOOSE < slab.keep <= highest and is_idle(slab)
                    and (all_idle or slab.nslots <= c.low)):
                n = 0
                for i in range(c.nfree):
                    if c.free_slots[i].slab != slab:
                        c.free_slots[n] = c.free_slots[i]
                        n += 1
                c.nfree = n
                c.room -= slab.nslots
                c.low -= slab.nslots
                c.count[<int>IDLE][0] -= slab.nslots
                c.count[<int>HELD_BYTES][0] -= slab.mapping.nbytes
                self.held -= slab.mapping.nbytes
                unmap_memory(&slab.mapping)
            slab = slab.next
        for i in range(self.nclasses):
            self.classes[i].low = self.classes[i].nfree
        return before - self.held

    cdef list reclaim(self, uint64_t scope):
        """Take back all that a scope still holds; gives (bytes, viewed, place) of each."""
        cdef Slab* slab = self.slabs
        cdef Slot* slot
        cdef Py_ssize_t i
        found = []
        while slab != NULL:
            for i in range(slab.nslots):
                slot = &slab.slots[i]
                if slot.lease and slot.scope == scope:
                    found.append((slot.nbytes, slot.exports > 0, self.place(slot)))
                    self.count_reclaim(slot)
                    self.take_back(slot)
            slab = slab.next
        return found

    cdef void count_reclaim(self, Slot* slot) noexcept:
        slot.slab.size_class.count[<int>RECLAIMS][0] += 1
        if slot.exports:
            slot.slab.size_class.count[<int>ESCAPES][0] += 1

    cdef str place(self, Slot* slot):
        return None if self.places is None else self.places.get(<size_t>slot)

    cdef str acquired_at(self, Slot* slot):
        where = self.place(slot)
        return "" if where is None else f", acquired at {where}"

    cdef Py_ssize_t warm(self, SizeClass* c, Py_ssize_t nslots, double deadline) except -1:
        """Map what is missing to `nslots` warm ones and touch it; gives how many are touched."""
        cdef Slab* slab = self.slabs
        cdef Py_ssize_t at = 0, there = 0, stride, step
        while slab != NULL:
            if slab.size_class == c and slab.keep == WARM and slab.mapping.memory != NULL:
                there += slab.nslots
            slab = slab.next
        if there >= nslots:
            return nslots
        if nslots - there > self.fitting(c.size):
            raise LimitExceeded(f"{self.name} pool: {nslots} buffers of {c.size} bytes to be warmed "
                                f"while {self.held} of at most {self.most} (bufpool_max_bytes) "
                                "are held")
        if now() >= deadline:
            return there
        slab = self.add_slab(c, nslots - there, c.size, WARM)
        while at < <Py_ssize_t>slab.mapping.nbytes and now() < deadline:
            step = min(TOUCH_BYTES, <Py_ssize_t>slab.mapping.nbytes - at)
            touch(slab.mapping.memory + at, step)
            at += step
        stride = (c.size + 63) // 64 * 64
        return min(nslots, there + at // stride)

    cdef int bind(self, object block, tuple offsets) except -1:
        """Move the counters into `block`, one float64 at each offset; values are carried over."""
        cdef Py_buffer view
        cdef Py_ssize_t i, at, n = self.nclasses * <int>NFIELDS
        cdef double* new
        if len(offsets) != n:
            raise ValueError(f"{self.name} pool: {len(offsets)} counter offsets, {n} are needed")
        PyObject_GetBuffer(block, &view, PyBUF_WRITABLE)
        try:
            for at in offsets:
                if at < 0 or at % 8 or at + 8 > view.len:
                    raise ValueError(f"{self.name} pool: counter offset {at} is not a multiple of "
                                     f"8 inside a block of {view.len} bytes")
        except BaseException:
            PyBuffer_Release(&view)
            raise
        for i in range(n):
            at = offsets[i]
            new = <double*>(<char*>view.buf + at)
            new[0] = self.classes[i // <int>NFIELDS].count[i % <int>NFIELDS][0]
            self.classes[i // <int>NFIELDS].count[i % <int>NFIELDS] = new
        if self.is_shared:
            PyBuffer_Release(&self.shared)
        self.shared = view
        self.is_shared = True
        return 0


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
    cdef object site               # the code object of the task it was injected into

    def __cinit__(self):
        self.slot = &NO_SLOT

    def __init__(self):
        raise TypeError("a Buffer comes from buffer() or a pool's acquire()")

    cdef inline bint is_lent(self) noexcept:
        return self.slot.lease == self.lease

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
            if self.arena.kind == RANDOM:
                slot.fresh = 0     # what was written over it has been in view
            self.arena.settle(slot)

    def __dealloc__(self):
        if self.slot.lease != self.lease or self.arena.made_in != generation:
            return
        self.arena.count_reclaim(self.slot)
        where = self.arena.acquired_at(self.slot)
        self.arena.take_back(self.slot)
        warn(f"{self.arena.name} pool: a buffer of {self.slot.nbytes} bytes was dropped without "
             f"release{where}", self.site)

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, kind, error, trace):
        if self.slot.lease != self.lease:
            return
        if self.slot.exports == 0:
            self.arena.take_back(self.slot)
            return
        self.slot.slab.size_class.count[<int>ESCAPES][0] += self.arena.made_in == generation
        where = self.arena.acquired_at(self.slot)
        self.arena.take_back(self.slot)
        warn(f"{self.arena.name} pool: a view outlived its buffer of {self.slot.nbytes} bytes"
             f"{where}; its memory is kept apart until the last view dies", self.site)

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
        self.arena.take_back(self.slot)

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

    __hash__ = None

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
        if self.slot.slab.size_class.size == UNBOUNDED:
            return <Py_ssize_t>self.slot.slab.mapping.nbytes
        return self.slot.slab.size_class.size

    @property
    def kind(self):
        """The kind of its pool: "regular", "secure" or "random"."""
        return None if self.arena is None else self.arena.name

    @property
    def released(self):
        """Whether it was given back."""
        return self.slot.lease != self.lease


cdef int warn(str message, object site) except -1:
    if site is None:
        PyErr_WarnEx(ResourceWarning, message.encode(), 1)
    else:
        warnings.warn_explicit(message, ResourceWarning, site.co_filename, site.co_firstlineno)
    return 0


def attribute(Buffer buffer, code):
    """Let warnings about this buffer name the function that `code` belongs to."""
    buffer.site = code


cdef Arena NO_ARENA = Arena("", REGULAR, (), 0, False)
NO_ARENA.made_in = NO_ARENA.open_in = 0


cdef class PoolCore:
    """One kind of pool: its bounds, and its arena in this process."""

    cdef Arena arena
    cdef Kind which
    cdef bint closed, lend_at_limit
    cdef object prepare, locate
    cdef readonly str kind
    cdef readonly tuple size_classes
    cdef readonly tuple labels
    cdef readonly Py_ssize_t max_bytes
    cdef readonly Py_ssize_t max_buffer_bytes

    def __cinit__(self, str kind, *, tuple size_classes, Py_ssize_t max_bytes,
                  Py_ssize_t max_buffer_bytes, bint lend_at_limit=True, prepare=None,
                  locate=None, **others):
        self.kind = kind
        self.which = {"regular": REGULAR, "secure": SECURE, "random": RANDOM}[kind]
        self.size_classes = size_classes
        self.labels = (*map(label, size_classes), "larger")
        self.max_bytes, self.max_buffer_bytes = max_bytes, max_buffer_bytes
        self.lend_at_limit, self.prepare, self.locate = lend_at_limit, prepare, locate
        self.arena = NO_ARENA

    cdef Arena here(self):
        """The arena of this process, made at the first use and again after a fork."""
        if self.closed:
            raise PoolClosed(f"{self.kind} pool: closed")
        if self.arena.made_in != generation:
            self.arena = Arena(self.kind, self.which, self.size_classes, self.max_bytes,
                               self.locate is not None)
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

    cdef Buffer lend(self, object nbytes):
        cdef Py_ssize_t n = PyLong_AsSsize_t(nbytes) if PyLong_CheckExact(nbytes) else -1
        if not 0 <= n <= self.max_buffer_bytes:
            PyErr_Clear()
            n = self.size_asked(nbytes)
        cdef Arena arena = self.arena
        if arena.open_in != generation:
            arena = self.here()
        place = None if self.locate is None else self.locate()
        cdef Scope scope = get_value(scope_variable) if scopes_used else None
        cdef Buffer buffer = Buffer.__new__(Buffer)
        arena.lend(buffer, n, 0 if scope is None else scope.number, self.lend_at_limit)
        if place is not None:
            arena.places[<size_t>buffer.slot] = place
        return buffer

    def acquire(self, nbytes):
        """Lend a buffer of exactly `nbytes` (an int, or text like "64KiB")."""
        return self.lend(nbytes)

    def fill(self, Py_ssize_t size, Py_ssize_t count, double seconds):
        """Have `count` slots of that class mapped, held at once and touched within `seconds`.

        Gives how many of them are warm. Raises LimitExceeded when they don't fit under the cap.
        """
        cdef Arena arena = self.here()
        return arena.warm(&arena.classes[self.size_classes.index(size)], count, now() + seconds)

    def shrink(self, *, bint all_idle):
        """Unmap idle memory above the warm level; gives the bytes."""
        return self.here().shrink(GROWN, all_idle)

    def reclaim(self, Scope scope):
        """Take back what a task holds at its end; gives (bytes, viewed, place) of each buffer."""
        if self.arena.made_in != generation:
            return []
        return self.arena.reclaim(scope.number)

    def bind_counters(self, block, offsets):
        """Keep the counters in `block`, an object with a writable buffer, from now on.

        `offsets` are in bytes, one for each label and, within it, each of FIELDS. The block is
        held (it can't be closed or resized) until the pool is bound elsewhere.
        """
        self.here().bind(block, tuple(offsets))

    def counters(self):
        """A tuple of floats in the order of FIELDS for each label, all of the same moment."""
        cdef Arena arena = self.arena if self.closed else self.here()
        return [tuple([arena.classes[i].count[j][0] for j in range(<int>NFIELDS)])
                for i in range(arena.nclasses)]

    def close(self):
        """Lend no more; buffers that are out stay valid, their memory goes when they do."""
        if not self.closed:
            self.here().open_in = 0
            self.closed = True
            self.arena.shrink(WARM, True)


cdef PoolCore regular_pool, secure_pool, random_pool
cdef object installed = None
cdef object make_pools = None


def on_first_use(factory):
    """Have `factory` called when a buffer is asked for and no pools are installed."""
    global make_pools
    make_pools = factory


def install(pools):
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
