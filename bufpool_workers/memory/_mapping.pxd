"""Memory from the kernel, in whole pages."""

from libc.stdint cimport uint64_t

cdef enum Kind:
    REGULAR
    SECURE
    RANDOM

cdef enum Level:      # of protection; each has all that the ones before it have
    PLAIN             # wiped, and between guard pages
    MLOCK             # never swapped, in no core dump, zeros in a forked child
    MEMFD             # memfd_secret(2): out of reach of all other processes, of root's too

cdef struct Mapping:
    char* memory      # first usable byte; NULL when nothing is mapped
    size_t nbytes     # usable bytes, whole pages
    char* start       # of all that is mapped, with the guard pages
    size_t length
    Level level
    bint lost         # another mapping took its place in the child of a fork
    Mapping* next     # of those that are secure

cdef uint64_t generation        # of this process: the child of a fork has the next one

cdef size_t page_bytes() noexcept nogil
cdef bint map_memory(Mapping* mapping, size_t nbytes, Kind kind, Level min_level) noexcept nogil
cdef void unmap_memory(Mapping* mapping) noexcept nogil
cdef void touch(char* memory, size_t nbytes) noexcept nogil
cdef bint can_map(size_t nbytes, Level min_level) noexcept nogil
