# Included by _core.pyx before arena.pyx: the counters of a size class, and where they lie.

cpdef enum Field:     # the order in memory; `pool_stats.FIELDS` has the same names
    GETS, PUTS, HITS, MISSES, DISCARDS, BYTES_ALLOCATED, BYTES_REUSED, ESCAPES, RECLAIMS,
    LIMIT_HITS, UNLOCKED, DAMAGES, IDLE, HELD_BYTES

cdef enum:
    NFIELDS = HELD_BYTES + 1

if (counted := tuple([field.name.lower() for field in Field])) != FIELDS:
    raise ImportError(f"bufpool_workers.memory._core counts {counted}, but pool_stats.FIELDS is "
                      f"{FIELDS}: they differ in {sorted({*counted} ^ {*FIELDS}) or 'their order'}")


cdef int bind_counters(Arena arena, object block, tuple offsets) except -1:
    """Move the counters into `block`, one float64 at each offset; values are carried over."""
    cdef Py_buffer view
    cdef Py_ssize_t i, n = arena.nclasses * <int>NFIELDS
    open_block(&view, block, offsets, n, f"{arena.name} pool")
    for i in range(n):
        move_count(&arena.classes[i // <int>NFIELDS].count[i % <int>NFIELDS], &view, offsets[i])
    cdef Py_buffer before = arena.shared
    cdef bint was_shared = arena.is_shared
    arena.shared = view
    arena.is_shared = True
    if was_shared:
        PyBuffer_Release(&before)      # last: it may run the exporter's Python code
    return 0


cdef int open_block(Py_buffer* view, object block, tuple offsets, Py_ssize_t n, str whose) except -1:
    """Open a block that can hold `n` counters at these offsets."""
    cdef Py_ssize_t at
    if len(offsets) != n:
        raise ValueError(f"{whose}: {n} counter offsets are needed, got {len(offsets)}")
    PyObject_GetBuffer(block, view, PyBUF_WRITABLE)
    try:
        if <size_t>view.buf % 8:
            raise ValueError(f"{whose}: the counter block must begin at a multiple of 8 in memory")
        if len(set(offsets)) != n:
            raise ValueError(f"{whose}: two counters at one offset")
        for at in offsets:
            if at < 0 or at % 8 or at > view.len - 8:
                raise ValueError(f"{whose}: counter offset {at} is not a multiple of 8 inside a "
                                 f"block of {view.len} bytes")
    except BaseException:
        PyBuffer_Release(view)
        raise
    return 0


cdef inline int move_count(double** count, Py_buffer* view, Py_ssize_t at) except -1:
    cdef double* new = <double*>(<char*>view.buf + at)
    new[0] = count[0][0]
    count[0] = new
    return 0
