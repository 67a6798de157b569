"""Memory from the kernel, in whole pages."""

cdef enum Kind:
    REGULAR
    SECURE
    RANDOM

cdef enum Level:      # of protection; each has all that the ones before it have
    PLAIN             # wiped, and between guard pages
    MLOCK             # never swapped, in no core dump, zeros in a forked child
    MEMFD             # memfd_secret(2): out of reach for everyone else, root too

cdef struct Mapping:
    char* memory      # first usable byte; NULL when nothing is mapped
    size_t nbytes     # usable bytes, whole pages
    char* start       # what munmap gets
    size_t length
    Level level
    bint lost         # another mapping took its place in the child of a fork
    Mapping* next     # of those that are secure

cdef size_t page_bytes() noexcept nogil
cdef bint map_memory(Mapping* mapping, size_t nbytes, Kind kind, Level least) noexcept nogil
cdef void unmap_memory(Mapping* mapping) noexcept nogil
cdef void touch(char* memory, size_t nbytes) noexcept nogil
cdef Level lowest_level() noexcept nogil
cdef size_t locked_bytes() noexcept nogil
cdef void show_protection(double* level, double* locked) noexcept nogil
