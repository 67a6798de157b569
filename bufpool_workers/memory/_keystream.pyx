# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
# cython: embedsignature=True, embedsignature.format=clinic
"""Random bytes faster than the kernel's: AES-256 in counter mode with fast key erasure.

A process has one block of keystream in secure memory, so fork and exit wipe it. Its first 32 bytes
go into the key of the next block, and what is read of the others is erased at once: a block that
is found tells nothing of earlier bytes (https://blog.cr.yp.to/20170723-random.html). 32 bytes of
the kernel's go into each key too, so it tells nothing of later blocks either: a copy of the
process (the snapshot of a virtual machine) repeats at most the rest of one block, and what idle
buffers of the random pool hold already. A wiped block has no key, and nothing is read of it.
"""

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.string cimport memcpy

from bufpool_workers.memory cimport _bytes, _os
from bufpool_workers.memory._mapping cimport (MLOCK, RANDOM, Level, Mapping, can_map, generation,
                                              map_memory, unmap_memory)

from bufpool_workers import _loading
from bufpool_workers.memory.protection import level_error
from bufpool_workers.pool_stats import LEVELS

cdef Py_ssize_t KEY_BYTES = 32
cdef Py_ssize_t BLOCK_BYTES = 64 * 1024
cdef Py_ssize_t MIN_BLOCK_BYTES = 4 * 1024
cdef bytes ZEROS = bytes(64 * 1024)

cdef Mapping block
cdef Py_ssize_t block_size = 0
cdef Py_ssize_t block_at = 0           # the next byte that was not read
cdef uint64_t block_generation = 0
cdef bint block_busy = False           # a thread is between the old block and the next one

cdef object new_encryptor = None       # of a key; set when cryptography is loaded


def load_keystream():
    """Load cryptography, which the random pool needs; calls after the first do nothing.

    The first use of a random pool does this before it lends. A process that is going to fork calls
    it before, so that its children share what is loaded.
    """
    if new_encryptor is None:
        _loading.run(load_cipher)


def load_cipher():
    """Import what makes keystream, and use it once."""
    global new_encryptor
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    # a key makes one block and is gone, so the counter may begin at zero each time
    counter = CTR(bytes(16))
    made = lambda key: Cipher(AES256(key), counter).encryptor()
    # cryptography makes its tables at their first use, under a lock as well
    made(bytes(KEY_BYTES)).update_into(ZEROS[:KEY_BYTES], bytearray(KEY_BYTES))
    new_encryptor = made


def rekey(block, /):
    """Fill `block` with keystream of the key that its first 32 bytes are.

    The first 32 bytes of the keystream replace that key. Costs about 5 microseconds, and 8 for
    each 64 KiB.
    """
    encryptor = new_encryptor(block[:KEY_BYTES])
    for at in range(0, len(block), len(ZEROS)):
        part = block[at:at + len(ZEROS)]
        encryptor.update_into(ZEROS[:len(part)], part)


cdef bint fill_from_kernel(char* memory, Py_ssize_t nbytes) noexcept nogil:
    """Fill memory with random bytes, 256 at a time as getentropy(3) asks."""
    cdef Py_ssize_t at = 0
    while at < nbytes:
        if _os.getentropy(memory + at, min(256, nbytes - at)):
            return False
        at += 256
    return True


cdef int renew_block(Level min_level) except -1:
    global block_at, block_busy
    load_keystream()
    if block_generation != generation:
        map_block(min_level)
    if block_busy:
        return 0
    cdef uint64_t began_in = generation
    cdef Py_ssize_t i
    cdef uint64_t fresh[4]
    # first, so that no byte can be read twice, or while it changes
    _bytes.wipe(block.memory + block_at, block_size - block_at)
    block_at = block_size
    if not fill_from_kernel(<char*>fresh, KEY_BYTES):
        raise OSError("random pool: the system gave no random bytes (getentropy)")
    for i in range(4):
        (<uint64_t*>block.memory)[i] ^= fresh[i]
    _bytes.wipe(fresh, KEY_BYTES)
    block_busy = True
    try:
        rekey(PyMemoryView_FromMemory(block.memory, block_size, PyBUF_WRITE))
        if began_in == generation:
            block_at = KEY_BYTES
    finally:
        if began_in == generation:
            block_busy = False
    return 0


cdef int map_block(Level min_level) except -1:
    """Map the block, smaller where only that much can be locked."""
    global block_size, block_at, block_generation, block_busy
    cdef Py_ssize_t size = BLOCK_BYTES
    while size >= MIN_BLOCK_BYTES and not can_map(size, max(min_level, MLOCK)):
        size //= 4
    if size < MIN_BLOCK_BYTES:
        size = BLOCK_BYTES
    # a thread that forked while it made a block still writes to the parent's, here a page of zeros
    if not block_busy:
        unmap_memory(&block)
    if not map_memory(&block, size, RANDOM, min_level):
        raise level_error("random pool", nbytes=size, level=LEVELS[<int>min_level])
    block_size = block_at = size
    block_generation = generation
    block_busy = False
    return 0


cdef bint read_keystream(char* memory, Py_ssize_t nbytes) noexcept nogil:
    """Move keystream to `memory` and erase it here; bytes that are missing come from the kernel."""
    global block_at
    cdef Py_ssize_t left = block_size - block_at if block_is_ours() else 0
    cdef Py_ssize_t n = min(nbytes, left)
    memcpy(memory, block.memory + block_at, n)
    _bytes.wipe(block.memory + block_at, n)
    block_at += n
    return n == nbytes or fill_from_kernel(memory + n, nbytes - n)
