# Included by _core.pyx: a buffer's bytes compared, searched and replaced, and never copied.

cdef extern from "<string.h>" nogil:
    void* memmem(const void* memory, size_t length, const void* part, size_t part_length) noexcept


cdef object compare(Buffer buffer, object other):
    """Return the answer to `==`, in a time that tells nothing of the bytes, for any kind.

    The other one may be a view of a secret too, which nobody can see of a view.
    """
    cdef Py_buffer mine, theirs
    if not PyObject_CheckBuffer(other):
        return NotImplemented
    PyObject_GetBuffer(buffer, &mine, PyBUF_SIMPLE)
    try:
        try:
            PyObject_GetBuffer(other, &theirs, PyBUF_INDIRECT)    # any shape
        except BufferError:
            return NotImplemented
        try:
            if not PyBuffer_IsContiguous(&theirs, b"C"):
                return NotImplemented
            return mine.len == theirs.len and _bytes.equal(mine.buf, theirs.buf, mine.len)
        finally:
            PyBuffer_Release(&theirs)
    finally:
        PyBuffer_Release(&mine)


cdef int clip(object start, object end, Py_ssize_t* low, Py_ssize_t* high) except -1:
    """Read the bounds of a search, as slices do; this may run Python code."""
    low[0] = 0 if start is None else PyNumber_AsSsize_t(start, NULL)
    high[0] = PY_SSIZE_T_MAX if end is None else PyNumber_AsSsize_t(end, NULL)
    return 0


cdef void adjust(Py_ssize_t length, Py_ssize_t* low, Py_ssize_t* high) noexcept nogil:
    if low[0] < 0:
        low[0] = max(low[0] + length, 0)
    high[0] = min(high[0], length) if high[0] >= 0 else max(high[0] + length, 0)


cdef int get_part(object part, Py_buffer* view, unsigned char* byte) except -1:
    """Get the bytes that are searched for: those of a bytes-like object, or one of an int."""
    cdef Py_ssize_t value
    if PyObject_CheckBuffer(part):
        PyObject_GetBuffer(part, view, PyBUF_SIMPLE)
        return 0
    if not PyIndex_Check(part):
        raise TypeError("argument should be integer or bytes-like object, not "
                        f"{type(part).__name__!r}")
    value = PyNumber_AsSsize_t(part, NULL)
    if not 0 <= value <= 255:
        raise ValueError("byte must be in range(0, 256)")
    byte[0] = <unsigned char>value
    memset(view, 0, sizeof(Py_buffer))      # releasing it does nothing
    view.buf, view.len = byte, 1
    return 0


cdef Py_ssize_t find_part(char* memory, Py_ssize_t low, Py_ssize_t high,
                          Py_buffer* part) noexcept nogil:
    """Return where the part begins first within these bounds, or -1."""
    if part.len > high - low:
        return -1
    if part.len == 0:
        return low
    cdef char* found = <char*>memmem(memory + low, high - low, part.buf, part.len)
    return -1 if found == NULL else found - memory


cdef Py_ssize_t search(Buffer buffer, object part, object start, object end,
                       bint counting) except -2:
    """Return where the part begins first, or -1; or how often it is there, without overlaps."""
    cdef Py_buffer mine, sought
    cdef Py_ssize_t low, high, at, n = 0
    cdef unsigned char byte
    clip(start, end, &low, &high)
    PyObject_GetBuffer(buffer, &mine, PyBUF_SIMPLE)
    try:
        get_part(part, &sought, &byte)
        try:
            adjust(mine.len, &low, &high)
            at = find_part(<char*>mine.buf, low, high, &sought)
            if not counting:
                return at
            if sought.len == 0:
                return max(high - low + 1, 0)
            while at >= 0:
                n += 1
                at = find_part(<char*>mine.buf, at + sought.len, high, &sought)
            return n
        finally:
            PyBuffer_Release(&sought)
    finally:
        PyBuffer_Release(&mine)


cdef bint is_edge(Buffer buffer, object part, object start, object end, bint last) except -1:
    """Compare the first or last bytes with a part, as `==` does, or with any of a tuple of them."""
    cdef Py_buffer mine, sought
    cdef Py_ssize_t low, high
    if isinstance(part, tuple):
        for one in <tuple>part:
            if is_edge(buffer, one, start, end, last):
                return True
        return False
    if not PyObject_CheckBuffer(part):
        raise TypeError(f"{'endswith' if last else 'startswith'} first arg must be bytes or a "
                        f"tuple of bytes, not {type(part).__name__}")
    clip(start, end, &low, &high)
    PyObject_GetBuffer(buffer, &mine, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(part, &sought, PyBUF_SIMPLE)
        try:
            adjust(mine.len, &low, &high)
            if high - low < sought.len:
                return False
            return _bytes.equal(<char*>mine.buf + (high - sought.len if last else low),
                                sought.buf, sought.len)
        finally:
            PyBuffer_Release(&sought)
    finally:
        PyBuffer_Release(&mine)


cdef int replace(Buffer buffer, object key, object value) except -1:
    """Write the bytes of an object of any item size, or ints, to a slice of the same length."""
    cdef Py_buffer mine
    cdef Py_ssize_t start, stop, step, n
    PySlice_Unpack(key, &start, &stop, &step)
    PyObject_GetBuffer(buffer, &mine, PyBUF_SIMPLE)
    try:
        n = PySlice_AdjustIndices(mine.len, &start, &stop, step)
        if PyObject_CheckBuffer(value):
            return write_bytes(<char*>mine.buf + start, step, n, value)
        if PyIndex_Check(value) or isinstance(value, str):
            raise TypeError("can assign only bytes, buffers, or iterables of ints in range(0, 256)")
        return write_ints(<char*>mine.buf + start, step, n, value)
    finally:
        PyBuffer_Release(&mine)


cdef int write_bytes(char* target, Py_ssize_t step, Py_ssize_t n, object value) except -1:
    cdef Py_buffer theirs
    cdef Py_ssize_t i
    cdef char* copy
    PyObject_GetBuffer(value, &theirs, PyBUF_INDIRECT)
    cdef bint contiguous = PyBuffer_IsContiguous(&theirs, b"C")
    try:
        if theirs.len != n:
            raise ValueError(f"{theirs.len} bytes assigned to {n} bytes of a buffer")
        if not contiguous and (theirs.ndim != 1 or theirs.suboffsets != NULL):
            raise ValueError("an array that is not contiguous: numpy.ascontiguousarray makes it so")
        if contiguous and step == 1:
            memmove(target, theirs.buf, n)
            return 0
        copy = allocate(n)       # source and target may be the same memory
        if contiguous:
            memcpy(copy, theirs.buf, n)
        else:
            for i in range(theirs.shape[0]):
                memcpy(copy + i * theirs.itemsize,
                       <char*>theirs.buf + i * theirs.strides[0], theirs.itemsize)
        scatter(target, step, n, copy)
    finally:
        PyBuffer_Release(&theirs)
    return 0


cdef int write_ints(char* target, Py_ssize_t step, Py_ssize_t n, object ints) except -1:
    cdef Py_ssize_t value, i = 0
    cdef char* copy = allocate(n)     # all of them are there before the first is written
    try:
        for item in ints:
            if i == n:
                raise ValueError(f"more than {n} ints assigned to {n} bytes of a buffer")
            value = PyNumber_AsSsize_t(item, NULL)
            if not 0 <= value <= 255:
                raise ValueError("byte must be in range(0, 256)")
            copy[i] = <char>value
            i += 1
        if i < n:
            raise ValueError(f"{i} ints assigned to {n} bytes of a buffer")
    except BaseException:
        _bytes.wipe(copy, n)
        free(copy)
        raise
    scatter(target, step, n, copy)
    return 0


cdef char* allocate(Py_ssize_t n) except NULL:
    cdef char* copy = <char*>malloc(n if n else 1)
    if copy == NULL:
        raise MemoryError
    return copy


cdef void scatter(char* target, Py_ssize_t step, Py_ssize_t n, char* copy) noexcept nogil:
    """Write `copy` to every `step`th byte, and leave nothing of it."""
    cdef Py_ssize_t i
    for i in range(n):
        target[i * step] = copy[i]
    _bytes.wipe(copy, n)
    free(copy)
