# cython: language_level=3, binding=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=clinic
"""Memory from the kernel, in whole pages: mapped, touched, protected, unmapped.

Secure memory lies between two guard pages, which no one can read or write. Its protection is
chosen for each mapping, since the limit on locked memory may be full now and have room later. All
secure mappings of the process are on one list. The handlers of fork and exit walk it and use only
system calls, as pthread_atfork(3) and signal-safety(7) ask.

The fork handler is the only one of the native modules. It also counts `generation`, by which each
of them sees that what it holds was made before a fork.
"""

from posix.unistd cimport _SC_PAGESIZE, close, ftruncate, sysconf

from bufpool_workers.memory cimport _bytes, _os

from bufpool_workers.pool_stats import LEVELS      # in the order of the enum Level

cdef size_t HUGE_PAGE = 2 * 1024 * 1024
cdef size_t PAGE = sysconf(_SC_PAGESIZE)

cdef uint64_t generation = 1       # of this process; the child of a fork gets the next
cdef Mapping* secure_mappings = NULL
cdef object gauge_block = None     # holds what the gauges below lie in
cdef double own_gauges[2]
cdef double* level_gauge = &own_gauges[0]
cdef double* locked_gauge = &own_gauges[1]


cdef size_t page_bytes() noexcept nogil:
    return PAGE


cdef inline size_t round_up(size_t n, size_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef inline char* map_anonymous(size_t length) noexcept nogil:
    cdef void* start = _os.mmap(NULL, length, _os.PROT_READ | _os.PROT_WRITE,
                                 _os.MAP_PRIVATE | _os.MAP_ANONYMOUS, -1, 0)
    return NULL if start == _os.MAP_FAILED else <char*>start


cdef bint map_memory(Mapping* mapping, size_t nbytes, Kind kind, Level min_level) noexcept nogil:
    """Map `nbytes` (rounded up to pages) of zeros; False when the kernel refuses.

    Secure and random memory gets the highest level of protection that is available now. Below
    `min_level` it is refused.
    """
    cdef size_t usable = round_up(nbytes if nbytes else 1, PAGE)
    if usable < nbytes or usable + HUGE_PAGE < usable:
        return False
    mapping.level, mapping.lost = PLAIN, False
    if kind == REGULAR:
        return map_regular(mapping, usable)
    if not map_secret(mapping, usable):
        if min_level == MEMFD or not map_private(mapping, usable, min_level):
            return False
    mapping.memory = mapping.start + PAGE
    mapping.nbytes = usable
    # last, so that a fork at any moment finds a list of whole mappings
    mapping.next = secure_mappings
    list_mapping(mapping)
    return True


cdef bint map_regular(Mapping* mapping, size_t usable) noexcept nogil:
    """Map memory; from 2 MiB on, aligned for huge pages and advised for them (madvise(2))."""
    cdef bint huge = usable >= HUGE_PAGE
    cdef size_t before, after, length = usable + HUGE_PAGE - PAGE if huge else usable
    cdef char* start = map_anonymous(length)
    if start == NULL:
        return False
    if huge:
        before = round_up(<size_t>start, HUGE_PAGE) - <size_t>start
        after = length - before - usable
        if before:
            _os.munmap(start, before)
        if after:
            _os.munmap(start + before + usable, after)
        start += before
        _os.madvise(start, usable, _os.MADV_HUGEPAGE)
    mapping.memory = mapping.start = start
    mapping.nbytes = mapping.length = usable
    return True


cdef bint map_secret(Mapping* mapping, size_t usable) noexcept nogil:
    """Map memory that only this process can reach: memfd_secret(2), shared with no child.

    While its descriptor is open others could map it, by pidfd_getfd(2): it is closed at once. The
    guards replace its first and last page, so that these don't stay locked.
    """
    cdef size_t length = usable + 2 * PAGE
    cdef int fd = _os.memfd_secret(_os.O_CLOEXEC)
    if fd < 0:
        return False
    cdef void* start = _os.MAP_FAILED
    if ftruncate(fd, length) == 0:
        start = _os.mmap(NULL, length, _os.PROT_READ | _os.PROT_WRITE, _os.MAP_SHARED, fd, 0)
    close(fd)
    if start == _os.MAP_FAILED:
        return False
    if (not guard(<char*>start) or not guard(<char*>start + PAGE + usable)
            or _os.madvise(<char*>start + PAGE, usable, _os.MADV_DONTFORK)):
        _os.munmap(start, length)
        return False
    mapping.start, mapping.length, mapping.level = <char*>start, length, MEMFD
    return True


cdef inline bint guard(char* page) noexcept nogil:
    return _os.mmap(page, PAGE, _os.PROT_NONE,
                     _os.MAP_PRIVATE | _os.MAP_ANONYMOUS | _os.MAP_FIXED, -1, 0) == page


cdef bint map_private(Mapping* mapping, size_t usable, Level min_level) noexcept nogil:
    """Map ordinary memory between guards: locked, in no dump, zeros in a child, if granted."""
    cdef size_t length = usable + 2 * PAGE
    cdef char* start = map_anonymous(length)
    if start == NULL:
        return False
    cdef bint guarded = (_os.mprotect(start, PAGE, _os.PROT_NONE) == 0
                         and _os.mprotect(start + PAGE + usable, PAGE, _os.PROT_NONE) == 0)
    cdef bint excluded = _os.exclude_from_dump_and_fork(start + PAGE, usable) == 0
    cdef bint locked = _os.mlock(start + PAGE, usable) == 0
    cdef Level level = MLOCK if excluded and locked else PLAIN
    if not guarded or level < min_level:
        _os.munmap(start, length)
        return False
    mapping.start, mapping.length, mapping.level = start, length, level
    return True


cdef void unmap_memory(Mapping* mapping) noexcept nogil:
    """Unmap memory; secure memory is wiped before."""
    cdef bint secure = mapping.start != mapping.memory
    if mapping.memory == NULL:
        return
    if not secure:
        _os.munmap(mapping.start, mapping.length)
    elif mapping.lost:
        _os.munmap(mapping.start, PAGE)
        _os.munmap(mapping.start + mapping.length - PAGE, PAGE)
    else:
        unlist_mapping(mapping)
        _bytes.wipe(mapping.memory, mapping.nbytes)
        _os.munmap(mapping.start, mapping.length)
    mapping.memory = NULL


cdef void list_mapping(Mapping* mapping) noexcept nogil:
    global secure_mappings
    secure_mappings = mapping
    publish_gauges()


cdef void unlist_mapping(Mapping* mapping) noexcept nogil:
    global secure_mappings
    cdef Mapping** link = &secure_mappings
    while link[0] != NULL and link[0] != mapping:
        link = &link[0].next
    if link[0] == mapping:       # one from before a fork is on no list
        link[0] = mapping.next
        publish_gauges()


cdef Level lowest_level() noexcept nogil:
    """Return the lowest level of what is mapped; if nothing is, the level that a page would get."""
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


cdef void publish_gauges() noexcept nogil:
    if secure_mappings != NULL:  # the level of nothing is what it was last
        level_gauge[0] = <int>lowest_level()
    locked_gauge[0] = locked_bytes()


cdef void after_fork_in_child() noexcept nogil:
    """Put zeros where the parent's secure memory was, and forget that memory.

    An inherited view would point into a hole in the address space otherwise. Another mapping that
    has taken the hole already is left alone.
    """
    global generation, secure_mappings, level_gauge, locked_gauge
    cdef Mapping* mapping = secure_mappings
    while mapping != NULL:
        if _os.remap_zeros(mapping.memory, mapping.nbytes, mapping.level == MEMFD):
            mapping.lost = True
        mapping = mapping.next
    secure_mappings = NULL
    level_gauge, locked_gauge = &own_gauges[0], &own_gauges[1]
    generation += 1


cdef void at_exit() noexcept nogil:
    cdef Mapping* mapping = secure_mappings
    while mapping != NULL:
        _bytes.wipe(mapping.memory, mapping.nbytes)
        mapping = mapping.next


if _os.pthread_atfork(NULL, NULL, after_fork_in_child) or _os.atexit(at_exit):
    raise MemoryError("no room for the handlers of fork and exit")


cdef void touch(char* memory, size_t nbytes) noexcept nogil:
    """Make every page present and private, so that later uses don't fault."""
    cdef size_t at = 0
    cdef char* first = <char*>(<size_t>memory // PAGE * PAGE)
    if _os.madvise(first, nbytes + (memory - first), _os.MADV_POPULATE_WRITE) == 0:
        return
    while at < nbytes:
        (<volatile char*>memory)[at] = memory[at]
        at += PAGE


cdef bint can_map(size_t nbytes, Level min_level) noexcept nogil:
    """Check that this much secure memory is available now at that level."""
    cdef Mapping trial
    if not map_memory(&trial, nbytes, SECURE, min_level):
        return False
    unmap_memory(&trial)
    return True


def reachable_level(Py_ssize_t nbytes=1):
    """Return the level of protection that `nbytes` more of secure memory would get now."""
    for level in (MEMFD, MLOCK):
        if can_map(nbytes, level):
            return LEVELS[<int>level]
    return LEVELS[<int>PLAIN]


def grants_memfd():
    """Return True if the kernel lets this process make memory by memfd_secret(2) at all."""
    cdef int fd = _os.memfd_secret(_os.O_CLOEXEC)
    if fd < 0:
        return False
    close(fd)
    return True


def secure_level():
    """Return the lowest level of this process's secure memory; if it has none, the next one's."""
    return LEVELS[<int>lowest_level()]


def secure_locked_bytes():
    """Return the bytes of secure memory that are locked in this process."""
    return locked_bytes()


def bind_gauges(block, *, Py_ssize_t level, Py_ssize_t locked):
    """Keep the lowest level (0 plain, 1 mlock, 2 memfd) and the locked bytes in `block`.

    `level` and `locked` are the offsets of two float64 in an object with a writable buffer, which
    is held from then on. A forked child counts in memory of its own until it binds them again.
    """
    global gauge_block, level_gauge, locked_gauge
    cdef double[::1] numbers
    view = memoryview(block)
    if view.readonly:
        raise BufferError("the block for the gauges is read-only")
    for name, at in (("level", level), ("locked", locked)):
        if at < 0 or at % 8 or at + 8 > view.nbytes:
            raise ValueError(f"{name} offset {at} is not a multiple of 8 inside a block of "
                             f"{view.nbytes} bytes")
    numbers = view.cast("B")[:view.nbytes // 8 * 8].cast("d")
    level_gauge, locked_gauge = &numbers[level // 8], &numbers[locked // 8]
    gauge_block = view      # after the pointers, so that they never point into a block let go
    level_gauge[0] = <int>lowest_level()
    locked_gauge[0] = locked_bytes()
