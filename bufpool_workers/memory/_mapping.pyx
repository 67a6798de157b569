# cython: language_level=3, binding=False, cdivision=True
"""Memory from the kernel, in whole pages: mapped, touched, unmapped."""

from posix.unistd cimport _SC_PAGESIZE, sysconf

from bufpool_workers.memory cimport _sys

cdef size_t HUGE_PAGE = 2 * 1024 * 1024
cdef size_t PAGE = sysconf(_SC_PAGESIZE)


cdef size_t page_bytes() noexcept nogil:
    return PAGE


cdef inline size_t round_up(size_t n, size_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef bint map_memory(Mapping* mapping, size_t nbytes, Kind kind) noexcept nogil:
    """Map `nbytes` (rounded up to pages) of zeros; False when the kernel refuses.

    From 2 MiB on the memory is aligned for huge pages and advised for them (madvise(2)).
    """
    cdef bint huge = nbytes >= HUGE_PAGE
    cdef size_t usable = round_up(nbytes if nbytes else 1, PAGE)
    cdef size_t length = usable + HUGE_PAGE - PAGE if huge else usable
    if usable < nbytes or length < usable:
        return False
    cdef char* start = <char*>_sys.mmap(NULL, length, _sys.PROT_READ | _sys.PROT_WRITE,
                                        _sys.MAP_PRIVATE | _sys.MAP_ANONYMOUS, -1, 0)
    if start == <char*>_sys.MAP_FAILED:
        return False
    cdef size_t before, after
    if huge:
        before = round_up(<size_t>start, HUGE_PAGE) - <size_t>start
        after = length - before - usable
        if before:
            _sys.munmap(start, before)
        if after:
            _sys.munmap(start + before + usable, after)
        start += before
        _sys.madvise(start, usable, _sys.MADV_HUGEPAGE)
    mapping.memory = mapping.start = start
    mapping.nbytes = mapping.length = usable
    return True


cdef void unmap_memory(Mapping* mapping) noexcept nogil:
    if mapping.memory != NULL:
        _sys.munmap(mapping.start, mapping.length)
        mapping.memory = NULL


cdef void touch(char* memory, size_t nbytes) noexcept nogil:
    """Make every page present and private, so that no later use of it faults."""
    cdef size_t at = 0
    cdef char* first = <char*>(<size_t>memory // PAGE * PAGE)
    if _sys.madvise(first, nbytes + (memory - first), _sys.MADV_POPULATE_WRITE) == 0:
        return
    while at < nbytes:
        (<volatile char*>memory)[at] = memory[at]
        at += PAGE
