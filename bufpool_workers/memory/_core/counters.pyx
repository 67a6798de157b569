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
    cdef Py_ssize_t i, at, n = arena.nclasses * <int>NFIELDS
    cdef double** count
    cdef double* new
    if len(offsets) != n:
        raise ValueError(f"{arena.name} pool: {n} counter offsets are needed, got {len(offsets)}")
    PyObject_GetBuffer(block, &view, PyBUF_WRITABLE)
    try:
        if <size_t>view.buf % 8:
            raise ValueError(f"{arena.name} pool: the counter block must begin at a multiple of 8 "
                             "in memory")
        if len(set(offsets)) != n:
            raise ValueError(f"{arena.name} pool: two counters at one offset")
        for at in offsets:
            if at < 0 or at % 8 or at > view.len - 8:
                raise ValueError(f"{arena.name} pool: counter offset {at} is not a multiple of "
                                 f"8 inside a block of {view.len} bytes")
    except BaseException:
        PyBuffer_Release(&view)
        raise
    for i in range(n):
        at = offsets[i]
        new = <double*>(<char*>view.buf + at)
        count = &arena.classes[i // <int>NFIELDS].count[i % <int>NFIELDS]
        new[0] = count[0][0]
        count[0] = new
    cdef Py_buffer before = arena.shared
    cdef bint was_shared = arena.is_shared
    arena.shared = view
    arena.is_shared = True
    if was_shared:
        PyBuffer_Release(&before)      # last: it may run the exporter's Python code
    return 0
