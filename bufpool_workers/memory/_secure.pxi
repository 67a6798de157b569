# Included by _core.pyx before _arena.pxi: what secure and random slots have that regular ones lack.

cdef Py_ssize_t CANARY_BYTES = 16
cdef Py_ssize_t KEY_BYTES = 32
cdef Py_ssize_t BLOCK_BYTES = 64 * 1024
cdef Py_ssize_t LEAST_BLOCK_BYTES = 4 * 1024

cdef uint64_t canary[2]
cdef uint64_t canary_made_in = 0

# The block of keystream of this process: its first 32 bytes are the key of the next block, what
# is read of the rest is erased. Fork and exit wipe it, as all secure memory.
cdef Mapping block
cdef Py_ssize_t block_size = 0
cdef Py_ssize_t block_at = 0       # the next byte that nobody has seen
cdef uint64_t block_made_in = 0
cdef bint block_busy = False       # a thread is between the old block and the next one


cdef bint fill_random(char* memory, Py_ssize_t nbytes) noexcept nogil:
    """Random bytes from the kernel, 256 at a time as getentropy(3) asks."""
    cdef Py_ssize_t at = 0
    while at < nbytes:
        if _sys.getentropy(memory + at, min(256, nbytes - at)):
            return False
        at += 256
    return True


cdef int make_canary() except -1:
    """Choose this process's canary: sixteen bytes that nobody can write by chance."""
    global canary_made_in
    if canary_made_in != generation:
        if not fill_random(<char*>canary, CANARY_BYTES):
            raise OSError("the system gave no random bytes (getentropy)")
        canary_made_in = generation
    return 0


cdef inline void set_canary(char* behind) noexcept nogil:
    memcpy(behind, canary, CANARY_BYTES)


cdef inline bint canary_lives(char* behind) noexcept nogil:
    return memcmp(behind, canary, CANARY_BYTES) == 0


cdef inline bint is_large(Py_ssize_t nbytes) noexcept nogil:
    """Whether a random buffer is more than a block can fill, and has a key of its own instead."""
    return nbytes > block_size - KEY_BYTES


cdef inline int prepare_random(Py_ssize_t nbytes, Level least) except -1:
    """Have `nbytes` of keystream ready, if a block holds as many.

    It runs Python code, so it comes before a change of state and never in the midst of one. What
    is missing afterwards, since another thread took it or is making the next block, comes from
    the kernel.
    """
    if block_made_in != generation or block_size - block_at < nbytes and not is_large(nbytes):
        return renew_block(least)
    return 0


cdef int renew_block(Level least) except -1:
    global block_at, block_busy
    if block_made_in != generation:
        map_block(least)
    if block_busy:
        return 0
    cdef uint64_t mine = generation
    cdef Py_ssize_t i
    cdef char any_bit = 0
    # first, so that no byte can be read twice, or while it changes
    _sys.wipe(block.memory + block_at, block_size - block_at)
    block_at = block_size
    for i in range(KEY_BYTES):
        any_bit |= block.memory[i]
    if not any_bit and not fill_random(block.memory, KEY_BYTES):
        raise OSError("random pool: the system gave no random bytes (getentropy)")
    block_busy = True
    try:
        keystream.make_block(PyMemoryView_FromMemory(block.memory, block_size, PyBUF_WRITE))
        if mine == generation:
            block_at = KEY_BYTES
    finally:
        if mine == generation:
            block_busy = False
    return 0


cdef int map_block(Level least) except -1:
    """Map the block, smaller where only that much can be locked."""
    global block_size, block_at, block_made_in, block_busy
    cdef Py_ssize_t size = BLOCK_BYTES
    while size >= LEAST_BLOCK_BYTES and not can_map(size, max(least, MLOCK)):
        size //= 4
    if size < LEAST_BLOCK_BYTES:
        size = BLOCK_BYTES
    # a thread that forked while it made a block still writes to the parent's, here a page of zeros
    if not block_busy:
        unmap_memory(&block)
    if not map_memory(&block, size, RANDOM, least):
        raise unmet("random pool", nbytes=size, level=LEVELS[<int>least])
    block_size = block_at = size
    block_made_in = generation
    block_busy = False
    return 0


cdef bint take_random(char* memory, Py_ssize_t nbytes) noexcept nogil:
    """Move keystream to `memory`, erasing it where it was; what is missing the kernel gives."""
    global block_at
    cdef Py_ssize_t n = min(nbytes, block_size - block_at if block_made_in == generation else 0)
    memcpy(memory, block.memory + block_at, n)
    _sys.wipe(block.memory + block_at, n)
    block_at += n
    return n == nbytes or fill_random(memory + n, nbytes - n)


cdef bint can_map(Py_ssize_t nbytes, Level least) noexcept nogil:
    """Whether that much secure memory can be had now at that level."""
    cdef Mapping trial
    if not map_memory(&trial, nbytes, SECURE, least):
        return False
    unmap_memory(&trial)
    return True


def reachable_level(Py_ssize_t nbytes=1):
    """The level of protection that `nbytes` more of secure memory would get now."""
    for level in (MEMFD, MLOCK):
        if can_map(nbytes, level):
            return LEVELS[<int>level]
    return LEVELS[<int>PLAIN]


def grants_memfd():
    """Whether the kernel lets this process make memory by memfd_secret(2) at all."""
    cdef int fd = _sys.memfd_secret(_sys.O_CLOEXEC)
    if fd < 0:
        return False
    close(fd)
    return True


def secure_level():
    """The lowest level of this process's secure memory; while it has none, what it would get."""
    return LEVELS[<int>lowest_level()]


def secure_locked_bytes():
    """Bytes of secure memory that are locked in this process."""
    return <Py_ssize_t>locked_bytes()


cdef object gauges_held = None


def bind_gauges(block_of_gauges, *, Py_ssize_t level, Py_ssize_t locked):
    """Keep the lowest level (0 plain, 1 mlock, 2 memfd) and the locked bytes at these offsets.

    Both are float64 in an object with a writable buffer, which is held from then on. A forked
    child keeps them to itself until it binds them anew.
    """
    global gauges_held
    cdef double[::1] numbers
    view = memoryview(block_of_gauges)
    if view.readonly:
        raise BufferError("the block for the gauges is read-only")
    for name, at in (("level", level), ("locked", locked)):
        if at < 0 or at % 8 or at + 8 > view.nbytes:
            raise ValueError(f"{name} offset {at} is not a multiple of 8 inside a block of "
                             f"{view.nbytes} bytes")
    numbers = view.cast("B")[:view.nbytes // 8 * 8].cast("d")
    show_protection(&numbers[level // 8], &numbers[locked // 8])
    gauges_held = view
