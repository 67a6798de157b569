# Included by _core.pyx: what an arena does with secure and random slots only.

cdef enum:
    CANARY_BYTES = 16
    MOST_LOOKED_AT = 64 * 1024    # the largest class whose slots are looked at to their end
    FEW_LOOKED_AT = 4 * 1024      # of larger ones, behind the canary

cdef uint64_t canary[2]
cdef uint64_t canary_generation = 0


cdef int make_canary() except -1:
    """Choose this process's canary: sixteen bytes that no program writes by chance."""
    global canary_generation
    if canary_generation != generation:
        if not fill_from_kernel(<char*>canary, CANARY_BYTES):
            raise OSError("the system gave no random bytes (getentropy)")
        canary_generation = generation
    return 0


cdef inline Py_ssize_t used_lines(Slot* slot) noexcept:
    """Return the length of the cache lines in which a buffer and its canary lie."""
    return (slot.nbytes + CANARY_BYTES + 63) // 64 * 64


cdef inline bint rest_is_zero(Arena arena, Slot* slot, Py_ssize_t at) noexcept:
    """Check that a slot is zero from `at` on: to its end, or in large classes 4 KiB more."""
    cdef SizeClass* c = slot.size_class
    cdef Py_ssize_t length
    if c.size <= MOST_LOOKED_AT:
        length = slot_stride(arena, c.size) - at
    elif c.size == UNBOUNDED:
        length = min(<Py_ssize_t>slot.slab.mapping.nbytes - at, FEW_LOOKED_AT)
    else:
        length = min(slot_stride(arena, c.size) - at, FEW_LOOKED_AT)
    return _bytes.is_zero(slot.memory + at, length)


cdef bint make_ready(Arena arena, Slot* slot) noexcept:
    """Fill a slot and put its canary behind the bytes that the user sees."""
    cdef SizeClass* c = slot.size_class
    if slot.slab.mapping.level == PLAIN:
        c.count[<int>UNLOCKED][0] += 1
        arena.unlocked += 1
        arena.unlocked_bytes = slot.nbytes
        c.nplain = min(c.nplain, c.nfree)
    if arena.kind == SECURE:
        _bytes.ensure_zero(slot.memory, used_lines(slot))
        memcpy(slot.memory + slot.nbytes, canary, CANARY_BYTES)
        return True
    cdef Py_ssize_t prefilled = slot.prefilled
    slot.prefilled = 0
    if prefilled > slot.nbytes:
        _bytes.wipe(slot.memory + slot.nbytes, prefilled - slot.nbytes)
        prefilled = slot.nbytes
    memcpy(slot.memory + slot.nbytes, canary, CANARY_BYTES)
    if (<uint64_t*>slot.memory)[0] == 0:      # wiped since, as by a fork past libc
        prefilled = 0
    if is_large(slot.nbytes):
        return read_keystream(slot.memory, KEY_BYTES)      # the key from which it is filled
    return read_keystream(slot.memory + prefilled, slot.nbytes - prefilled)


cdef void overwrite(Arena arena, Slot* slot) noexcept:
    """Leave nothing of what the user wrote, and look at what lies behind it."""
    cdef char* behind = slot.memory + slot.nbytes
    if (memcmp(behind, canary, CANARY_BYTES)
            or not rest_is_zero(arena, slot, slot.nbytes + CANARY_BYTES)):
        retire(arena, slot)
        return
    if arena.kind == RANDOM and not is_large(slot.nbytes):
        # the bytes that overwrite the old ones are those that the next user of the slot gets
        _bytes.wipe(behind, CANARY_BYTES)
        slot.prefilled = slot.nbytes
        if read_keystream(slot.memory, slot.nbytes):
            return
        slot.prefilled = 0
    _bytes.wipe(slot.memory, used_lines(slot))


cdef void overwrite_viewed(Arena arena, Slot* slot) noexcept:
    """Leave nothing of what views wrote after the end of their buffer."""
    if not slot.retired and not rest_is_zero(arena, slot, slot.nbytes):
        retire(arena, slot)
    slot.prefilled = 0
    _bytes.wipe(slot.memory, slot.nbytes)


cdef void retire(Arena arena, Slot* slot) noexcept:
    """Count a slot that was written past its buffer's end, wipe it, and never lend it again.

    The idle ones that the overrun may have reached are wiped too.
    """
    cdef Slab* slab = slot.slab
    cdef Py_ssize_t i, stride = (<Py_ssize_t>slab.mapping.nbytes if slab.nslots == 1
                                 else slot_stride(arena, slab.size_class.size))
    slot.retired = True
    slot.size_class.count[<int>DAMAGES][0] += 1
    arena.damaged_bytes = slot.nbytes
    for i in range(slab.nslots):
        slab.slots[i].prefilled = 0
        if &slab.slots[i] == slot or is_idle(&slab.slots[i]):
            _bytes.wipe(slab.slots[i].memory, stride)


cdef void push_free_secure(Arena arena, Slot* slot) noexcept:
    cdef SizeClass* c = slot.size_class
    if slot.retired:
        c.count[<int>PUTS][0] += 1
        c.count[<int>DISCARDS][0] += 1
        if slot.slab.kind == ONE_SHOT:
            unmap_one_shot(arena, slot.slab)
        return
    arena.push_free(slot)
    if c.nfree and c.free_slots[c.nfree - 1] == slot and slot.slab.mapping.level == PLAIN:
        keep_unlocked_last(c, c.nfree - 1)


cdef inline void keep_unlocked_last(SizeClass* c, Py_ssize_t i) noexcept:
    """Move the slot at `i` to the unlocked ones at the stack's bottom, which are taken last."""
    c.free_slots[i], c.free_slots[c.nplain] = c.free_slots[c.nplain], c.free_slots[i]
    c.nplain += 1


cdef Py_ssize_t slots_to_lock(Arena arena, SizeClass* c, Py_ssize_t nslots) noexcept:
    """Return how many of `nslots` to map now: as many as can be locked together.

    Where no slot can be locked, all of them if the pool's level allows that.
    """
    cdef Py_ssize_t n = nslots
    if arena.kind == REGULAR:
        return nslots
    while n and not can_map(n * slot_stride(arena, c.size), max(arena.min_level, MLOCK)):
        n //= 2
    return n or (nslots if arena.min_level == PLAIN else 1)
