# Included by _core.pyx: the handle that a user has, and what becomes of its slot without it.

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

    def __exit__(self, kind, error, trace, /):
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
                              f"{self.slot.exports} live "
                              f"{'view' if self.slot.exports == 1 else 'views'}")
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
