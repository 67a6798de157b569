"""Memory from the kernel, in whole pages."""

cdef enum Kind:
    REGULAR
    SECURE
    RANDOM

cdef struct Mapping:
    char* memory      # first usable byte; NULL when nothing is mapped
    size_t nbytes     # usable bytes, whole pages
    char* start       # what munmap gets
    size_t length

cdef size_t page_bytes() noexcept nogil
cdef bint map_memory(Mapping* mapping, size_t nbytes, Kind kind) noexcept nogil
cdef void unmap_memory(Mapping* mapping) noexcept nogil
cdef void touch(char* memory, size_t nbytes) noexcept nogil
