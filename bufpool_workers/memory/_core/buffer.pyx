# Included by _core.pyx: the handle that a user has, and what happens when it is dropped.

cdef Slot NO_SLOT
NO_SLOT.checkout_id = UNBOUNDED    # so that a handle made by hand is a released one


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Buffer:
    """A piece of a pool's memory, exactly as long as was asked for; a context manager.

    It supports the buffer protocol (writable, contiguous, format "B"). After release every access
    raises ValueError. Memory is not used again while it has views: see `release`.
    """

    cdef Arena arena
    cdef Slot* slot
    cdef uint64_t checkout_id

    def __cinit__(self):
        self.slot = &NO_SLOT

    def __init__(self):
        raise TypeError("a Buffer comes from buffer() or a pool's acquire()")

    cdef int check(self) except -1:
        if self.slot.checkout_id != self.checkout_id:
            raise ValueError("buffer is released")
        if self.arena.kind != REGULAR and self.arena.generation != generation:
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
        if slot.exports == 0 and slot.checkout_id == 0 and self.arena.generation == generation:
            self.arena.last_view_died(slot)

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, kind, error, trace, /):
        if self.slot.checkout_id == self.checkout_id:
            self.end(None)

    cdef inline int end(self, blame) except -1:
        """End the checkout, with or without live views; warnings name the function `blame`."""
        if self.arena.kind != REGULAR:
            return self.end_secure(blame)
        return self.end_any(blame)

    cdef inline int end_any(self, blame) except -1:
        if self.slot.exports == 0:
            self.arena.return_slot(self.slot)
            return 0
        if self.arena.generation == generation:     # else the counter may be the parent's, shared
            self.slot.size_class.count[<int>ESCAPES][0] += 1
        where, place = self.arena.acquired_at(self.slot), self.arena.place(self.slot)
        self.arena.return_slot(self.slot)
        note_misuse("escapes", self.arena.name, self.slot.nbytes, place=place, blame=blame)
        return warn(f"{self.arena.name} pool: a view outlived its buffer of {self.slot.nbytes} "
                    f"bytes{where}; its memory is kept apart until the last view dies", blame)

    cdef int end_secure(self, blame) except -1:
        if self.arena.kind == RANDOM:
            ensure_keystream(self.slot.nbytes, self.arena.min_level)
            if self.slot.checkout_id != self.checkout_id:    # another thread released it meanwhile
                return 0
        self.end_any(blame)
        if has_found(self.arena):
            note_found(self.arena, task_of(current_job()), blame)
            tell_noted()
        return 0

    def release(self):
        """Return the memory to its pool.

        Raises ValueError if it was returned before, and BufferError while views of the buffer are
        alive (a slice, a memoryview, a numpy array), as bytearray and mmap do.
        """
        if self.slot.checkout_id != self.checkout_id:
            raise ValueError("buffer is released")
        if self.slot.exports:
            raise BufferError(f"{self.arena.name} pool: the buffer of {self.slot.nbytes} bytes has "
                              f"{self.slot.exports} live "
                              f"{'view' if self.slot.exports == 1 else 'views'}")
        self.end(None)

    def __len__(self):
        self.check()
        return self.slot.nbytes

    def __getitem__(self, key):
        return memoryview(self)[key]

    def __setitem__(self, key, value):
        memoryview(self)[key] = value

    def __repr__(self):
        if self.slot.checkout_id != self.checkout_id:
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
        """The size of its size class, in bytes; at least `nbytes`."""
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
        """True once it was returned to its pool."""
        return self.slot.checkout_id != self.checkout_id


@cython.final
@cython.no_gc
cdef class DropReport:
    """Warns of a dropped buffer when it is deallocated, which keeps the current exception apart."""

    cdef Arena arena
    cdef Slot* slot

    def __dealloc__(self):
        message = (f"{self.arena.name} pool: a buffer of {self.slot.nbytes} bytes was dropped "
                   f"without release{self.arena.acquired_at(self.slot)}")
        task = task_of(current_job())
        note_later("reclaims", self.arena, self.slot.nbytes, 1, task, self.arena.place(self.slot),
                   None)
        note_found(self.arena, task, None)
        warn(message, None)


cdef void drop(Arena arena, Slot* slot) noexcept:
    """Take back a buffer that was not released, and report it."""
    arena.count_reclaim(slot)
    arena.return_slot(slot)
    cdef DropReport report = DropReport.__new__(DropReport)
    report.arena, report.slot = arena, slot


# Not Cython's `__dealloc__`, which keeps the current exception apart each time: that is a seventh
# of the cost of a buffer, and only dropped ones need it.
cdef destructor free_handle = (<PyTypeObject*>Buffer).tp_dealloc


cdef void dealloc(PyObject* handle) noexcept:
    # no variable of type Buffer: counting references would free the handle once more
    cdef Slot* slot = (<Buffer>handle).slot
    if (slot.checkout_id == (<Buffer>handle).checkout_id
            and (<Buffer>handle).arena.generation == generation):
        drop((<Buffer>handle).arena, slot)
    free_handle(handle)

(<PyTypeObject*>Buffer).tp_dealloc = dealloc
(<PyTypeObject*>Buffer).tp_name = "bufpool_workers.Buffer"      # where users import it from


cdef int fill_large(Buffer buffer) except -1:
    """Fill a random buffer larger than a block from its first bytes, a key, as a block is filled.

    This runs Python code, so it comes after the change of state. A view keeps the memory in place.
    """
    try:
        with memoryview(buffer) as view:
            _keystream.rekey(view)
    except BaseException:
        if buffer.slot.checkout_id == buffer.checkout_id:
            buffer.arena.return_slot(buffer.slot)
        raise
    return 0


cdef int warn(str message, object blame) except -1:
    """Emit a ResourceWarning at the caller's line, or at the function with the code `blame`."""
    if blame is None:
        PyErr_WarnEx(ResourceWarning, message.encode("utf-8", "backslashreplace"), 1)
    else:
        warnings.warn_explicit(message, ResourceWarning, blame.co_filename, blame.co_firstlineno)
    return 0


def release_on_exit(Buffer buffer not None, blame):
    """Release as the end of a `with` does, with warnings that name the function of code `blame`."""
    if buffer.slot.checkout_id == buffer.checkout_id:
        buffer.end(blame)
