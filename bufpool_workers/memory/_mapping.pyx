# cython: language_level=3, binding=False, cdivision=True
"""Memory from the kernel, in whole pages: mapped, touched, protected, unmapped.

Secure memory lies between two pages that nobody may touch. What it is made of is decided for each
mapping anew, since a limit that was full may have room later and the other way round. All secure
mappings of the process are on one list, which the handlers of fork and exit walk; they use
nothing but system calls, as pthread_atfork(3) and signal-safety(7) ask.
"""

from posix.unistd cimport _SC_PAGESIZE, close, ftruncate, sysconf

from bufpool_workers.memory cimport _sys

cdef size_t HUGE_PAGE = 2 * 1024 * 1024
cdef size_t PAGE = sysconf(_SC_PAGESIZE)

cdef Mapping* secure_mappings = NULL
cdef double own_gauges[2]
cdef double* level_gauge = &own_gauges[0]
cdef double* locked_gauge = &own_gauges[1]


cdef size_t page_bytes() noexcept nogil:
    return PAGE


cdef inline size_t round_up(size_t n, size_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef inline char* map_anonymous(size_t length) noexcept nogil:
    cdef void* start = _sys.mmap(NULL, length, _sys.PROT_READ | _sys.PROT_WRITE,
                                 _sys.MAP_PRIVATE | _sys.MAP_ANONYMOUS, -1, 0)
    return NULL if start == _sys.MAP_FAILED else <char*>start


cdef bint map_memory(Mapping* mapping, size_t nbytes, Kind kind, Level least) noexcept nogil:
    """Map `nbytes` (rounded up to pages) of zeros; False when the kernel refuses.

    Secure and random memory gets the highest level of protection that can be had now, and is
    refused below `least`.
    """
    cdef size_t usable = round_up(nbytes if nbytes else 1, PAGE)
    if usable < nbytes or usable + HUGE_PAGE < usable:
        return False
    mapping.level, mapping.lost = PLAIN, False
    if kind == REGULAR:
        return map_regular(mapping, usable)
    if not map_secret(mapping, usable):
        if least == MEMFD or not map_private(mapping, usable, least):
            return False
    mapping.memory = mapping.start + PAGE
    mapping.nbytes = usable
    # last, so that a fork at any moment finds a list of whole mappings
    mapping.next = secure_mappings
    list_mapping(mapping)
    return True


cdef bint map_regular(Mapping* mapping, size_t usable) noexcept nogil:
    """From 2 MiB on the memory is aligned for huge pages and advised for them (madvise(2))."""
    cdef bint huge = usable >= HUGE_PAGE
    cdef size_t before, after, length = usable + HUGE_PAGE - PAGE if huge else usable
    cdef char* start = map_anonymous(length)
    if start == NULL:
        return False
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


cdef bint map_secret(Mapping* mapping, size_t usable) noexcept nogil:
    """Memory that only this process can reach: memfd_secret(2), shared with no child.

    While its descriptor is open others could map it, by pidfd_getfd(2): it is closed at once. The
    guards are mapped over its first and last page, so that they don't stay locked.
    """
    cdef size_t length = usable + 2 * PAGE
    cdef int fd = _sys.memfd_secret(_sys.O_CLOEXEC)
    if fd < 0:
        return False
    cdef void* start = _sys.MAP_FAILED
    if ftruncate(fd, length) == 0:
        start = _sys.mmap(NULL, length, _sys.PROT_READ | _sys.PROT_WRITE, _sys.MAP_SHARED, fd, 0)
    close(fd)
    if start == _sys.MAP_FAILED:
        return False
    if (not guard(<char*>start) or not guard(<char*>start + PAGE + usable)
            or _sys.madvise(<char*>start + PAGE, usable, _sys.MADV_DONTFORK)):
        _sys.munmap(start, length)
        return False
    mapping.start, mapping.length, mapping.level = <char*>start, length, MEMFD
    return True


cdef inline bint guard(char* page) noexcept nogil:
    return _sys.mmap(page, PAGE, _sys.PROT_NONE,
                     _sys.MAP_PRIVATE | _sys.MAP_ANONYMOUS | _sys.MAP_FIXED, -1, 0) == page


cdef bint map_private(Mapping* mapping, size_t usable, Level least) noexcept nogil:
    """Ordinary memory between guards: locked, in no dump, zeros in a child, as far as granted."""
    cdef size_t length = usable + 2 * PAGE
    cdef char* start = map_anonymous(length)
    if start == NULL:
        return False
    cdef bint guarded = (_sys.mprotect(start, PAGE, _sys.PROT_NONE) == 0
                         and _sys.mprotect(start + PAGE + usable, PAGE, _sys.PROT_NONE) == 0)
    cdef bint apart = _sys.keep_apart(start + PAGE, usable) == 0
    cdef bint locked = _sys.mlock(start + PAGE, usable) == 0
    cdef Level level = MLOCK if apart and locked else PLAIN
    if not guarded or level < least:
        _sys.munmap(start, length)
        return False
    mapping.start, mapping.length, mapping.level = start, length, level
    return True


cdef void unmap_memory(Mapping* mapping) noexcept nogil:
    """Give a mapping back; what is secure is wiped before."""
    cdef bint secure = mapping.start != mapping.memory
    if mapping.memory == NULL:
        return
    if not secure:
        _sys.munmap(mapping.start, mapping.length)
    elif mapping.lost:
        _sys.munmap(mapping.start, PAGE)
        _sys.munmap(mapping.start + mapping.length - PAGE, PAGE)
    else:
        unlist_mapping(mapping)
        _sys.wipe(mapping.memory, mapping.nbytes)
        _sys.munmap(mapping.start, mapping.length)
    mapping.memory = NULL


cdef void list_mapping(Mapping* mapping) noexcept nogil:
    global secure_mappings
    secure_mappings = mapping
    show()


cdef void unlist_mapping(Mapping* mapping) noexcept nogil:
    global secure_mappings
    cdef Mapping** link = &secure_mappings
    while link[0] != NULL and link[0] != mapping:
        link = &link[0].next
    if link[0] == mapping:       # one from before a fork is on no list
        link[0] = mapping.next
        show()


cdef Level lowest_level() noexcept nogil:
    """The lowest level of what is mapped; while nothing is, what a page would get."""
    cdef Mapping trial
    cdef Mapping* mapping = secure_mappings
    cdef Level level = MEMFD
    if mapping == NULL:
        if not map_memory(&trial, 1, SECURE, PLAIN):
            return PLAIN
        level = trial.level
        unmap_memory(&trial)
        return level
    while mapping != NULL:
        level = min(level, mapping.level)
        mapping = mapping.next
    return level


cdef size_t locked_bytes() noexcept nogil:
    cdef Mapping* mapping = secure_mappings
    cdef size_t total = 0
    while mapping != NULL:
        if mapping.level > PLAIN:
            total += mapping.nbytes
        mapping = mapping.next
    return total


cdef void show() noexcept nogil:
    if secure_mappings != NULL:  # the level of nothing is what it was last
        level_gauge[0] = <int>lowest_level()
    locked_gauge[0] = locked_bytes()


cdef void show_protection(double* level, double* locked) noexcept nogil:
    """Keep the level and the locked bytes of this process in these two from now on."""
    global level_gauge, locked_gauge
    level_gauge, locked_gauge = level, locked
    level_gauge[0] = <int>lowest_level()
    locked_gauge[0] = locked_bytes()


cdef void after_fork_in_child() noexcept nogil:
    """Put zeros where the parent's secure memory was, and forget that memory.

    A view of it that the child inherited would hit a hole in the address space otherwise. Where
    something else took the hole already, that is left alone.
    """
    global secure_mappings, level_gauge, locked_gauge
    cdef Mapping* mapping = secure_mappings
    while mapping != NULL:
        if _sys.put_zeros(mapping.memory, mapping.nbytes, mapping.level == MEMFD):
            mapping.lost = True
        mapping = mapping.next
    secure_mappings = NULL
    level_gauge, locked_gauge = &own_gauges[0], &own_gauges[1]


cdef void at_exit() noexcept nogil:
    cdef Mapping* mapping = secure_mappings
    while mapping != NULL:
        _sys.wipe(mapping.memory, mapping.nbytes)
        mapping = mapping.next


if _sys.pthread_atfork(NULL, NULL, after_fork_in_child) or _sys.atexit(at_exit):
    raise MemoryError("no room for the handlers of fork and exit")


cdef void touch(char* memory, size_t nbytes) noexcept nogil:
    """Make every page present and private, so that no later use of it faults."""
    cdef size_t at = 0
    cdef char* first = <char*>(<size_t>memory // PAGE * PAGE)
    if _sys.madvise(first, nbytes + (memory - first), _sys.MADV_POPULATE_WRITE) == 0:
        return
    while at < nbytes:
        (<volatile char*>memory)[at] = memory[at]
        at += PAGE
