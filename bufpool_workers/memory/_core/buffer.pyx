# Included by _core.pyx: the handle that a user has.

cdef Slot NO_SLOT
NO_SLOT.checkout_id = UNBOUNDED    # so that a handle made by hand is a released one

cdef str JOIN = "take a secure buffer of both lengths and assign the parts"


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Buffer:
    """A piece of a pool's memory of exactly the length that was asked for; a context manager.

    It supports the buffer protocol (PEP 3118: writable, contiguous, format "B"). After release
    every access raises ValueError. Its memory is not lent again while it has views.

    `==` compares its bytes with those of any contiguous object, in a time that doesn't depend on
    them. `hex`, `decode`, `copy` and `+` would copy a secret: secure and random ones raise
    TypeError.
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
            self.arena.count_escape(self.slot)
        place = self.arena.place(self.slot)
        self.arena.return_slot(self.slot)
        with _Telling():     # once for both
            note_misuse("escapes", self.arena.name, self.slot.nbytes, place=place, blame=blame)
            warn(f"{self.arena.name} pool: a view outlived its buffer of {self.slot.nbytes} "
                 f"bytes{acquired_at(place)}; its memory is kept apart until the last view dies",
                 blame)
        return 0

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
        cdef Py_ssize_t i
        if not PyIndex_Check(key):
            return memoryview(self)[key]
        i = PyNumber_AsSsize_t(key, <PyObject*>IndexError)
        return item(self, i + len(self) if i < 0 else i)

    def __setitem__(self, key, value):
        if isinstance(key, slice):
            replace(self, key, value)
        else:
            memoryview(self)[key] = value

    def __delitem__(self, key):
        raise TypeError("a Buffer has a fixed length: nothing can be deleted of it")

    def __iter__(self):
        self.check()
        return PySeqIter_New(self)     # an iterator that is left over is no view

    def __contains__(self, part):
        return search(self, part, None, None, False) >= 0

    def find(self, part, start=None, end=None, /):
        """Return where `part` (bytes or an int) begins first in buffer[start:end], or -1."""
        return search(self, part, start, end, False)

    def index(self, part, start=None, end=None, /):
        """Return where `part` begins first, as `find` does; raise ValueError if it is not there."""
        cdef Py_ssize_t at = search(self, part, start, end, False)
        if at < 0:
            raise ValueError("subsection not found")
        return at

    def count(self, part, start=None, end=None, /):
        """Return how often `part` (bytes or an int) is in buffer[start:end], without overlaps."""
        return search(self, part, start, end, True)

    def startswith(self, prefix, start=None, end=None, /):
        """Return True if buffer[start:end] starts with `prefix`, or with any of a tuple of them."""
        return is_edge(self, prefix, start, end, False)

    def endswith(self, suffix, start=None, end=None, /):
        """Return True if buffer[start:end] ends with `suffix`, or with any of a tuple of them."""
        return is_edge(self, suffix, start, end, True)

    cdef int may_copy(self, str what, str instead) except -1:
        """Check that what is made of the content is no copy of a secret that nobody wipes."""
        self.check()
        if self.arena.kind != REGULAR:
            raise TypeError(f"{self.arena.name} pool: {what} would leave a copy that nothing "
                            f"wipes: {instead}")
        return 0

    def hex(self, sep=None, bytes_per_sep=1):
        """Return the content in hexadecimal, as bytes.hex does.

        Raises TypeError for secure and random kinds, of which it would leave a copy.
        """
        self.may_copy("hex()", "bytes(buf).hex() if that is meant")
        view = memoryview(self)
        return view.hex() if sep is None else view.hex(sep, bytes_per_sep)

    def decode(self, encoding="utf-8", errors="strict"):
        """Return the content as text, as bytes.decode does.

        Raises TypeError for secure and random kinds, of which it would leave a copy.
        """
        self.may_copy("decode()", "str(buf, encoding) if that is meant")
        return str(memoryview(self), encoding, errors)

    def copy(self):
        """Return the content in a bytearray, which belongs to no pool.

        Raises TypeError for secure and random kinds, of which it would leave a copy.
        """
        self.may_copy("copy()", "take another secure buffer and assign other[:] = buf")
        return bytearray(self)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo, /):
        return self.copy()

    def __add__(self, other):
        if not PyObject_CheckBuffer(other):
            return NotImplemented
        self.may_copy("+", JOIN)
        if isinstance(other, Buffer):
            (<Buffer>other).may_copy("+", JOIN)
        return bytearray(self) + other

    def __radd__(self, other):
        # asked before the concatenation of bytes, which would copy
        if PyObject_CheckBuffer(other):
            self.may_copy("+", JOIN)
        return NotImplemented

    def __iadd__(self, other):
        raise TypeError("a Buffer does not grow: take one of both lengths and assign the parts")

    def __repr__(self):
        if self.slot.checkout_id != self.checkout_id:
            return "<bufpool_workers.Buffer, released>"
        return f"<bufpool_workers.Buffer, {self.arena.name}, {self.slot.nbytes} bytes>"

    def __eq__(self, other):
        # having this and no hash makes it unhashable: its content changes
        if other is self:
            return True
        self.check()
        return compare(self, other)

    def __reduce__(self):
        if self.arena is not None and self.arena.kind != REGULAR:
            raise TypeError(f"{self.arena.name} pool: a Buffer cannot be pickled: seal what it "
                            "holds, or pass on what was made with it")
        raise TypeError("a Buffer cannot be pickled: pass on bytes(buffer) instead")

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


cdef object item(Buffer buffer, Py_ssize_t i):
    buffer.check()
    if not 0 <= i < buffer.slot.nbytes:
        raise IndexError("buffer index out of range")
    return <unsigned char>buffer.slot.memory[i]

# Cython's own, which iteration uses, would count a negative index from the end a second time
(<SequenceType*>Buffer).tp_as_sequence.sq_item = <ssizeargfunc>item
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


def release_on_exit(Buffer buffer not None, blame):
    """Release as the end of a `with` does, with warnings that name the function of code `blame`."""
    if buffer.slot.checkout_id == buffer.checkout_id:
        buffer.end(blame)
