"""Random bytes for the random pool, faster than the kernel's."""

from libc.stdint cimport uint64_t

from bufpool_workers.memory._mapping cimport Level, Mapping, generation

cdef Py_ssize_t KEY_BYTES

cdef Mapping block
cdef Py_ssize_t block_size
cdef Py_ssize_t block_at
cdef uint64_t block_generation

cdef bint fill_from_kernel(char* memory, Py_ssize_t nbytes) noexcept nogil
cdef int renew_block(Level min_level) except -1
cdef bint read_keystream(char* memory, Py_ssize_t nbytes) noexcept nogil


cdef inline bint is_large(Py_ssize_t nbytes) noexcept nogil:
    """Check that a buffer is too large for a block: it gets a key, and is filled from that."""
    return nbytes > block_size - KEY_BYTES


cdef inline bint block_is_ours() noexcept nogil:
    """Check that the block is of this process, and that nothing wiped it: it begins with a key.

    The child of a fork by system call, past libc and its handlers, finds zeros there.
    """
    return block_generation == generation and (<uint64_t*>block.memory)[0] != 0


cdef inline int ensure_keystream(Py_ssize_t nbytes, Level min_level) except -1:
    """Make `nbytes` of keystream ready, if a block holds as many.

    This runs Python code, so it comes before a change of state and never during one. Bytes that
    are missing afterwards come from the kernel: another thread took them, or makes the next block.
    """
    if not block_is_ours() or block_size - block_at < nbytes and not is_large(nbytes):
        return renew_block(min_level)
    return 0
