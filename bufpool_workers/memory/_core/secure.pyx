# Included by _core.pyx after arena.pyx: what it does with secure and random slots only.

cdef Py_ssize_t CANARY_BYTES = 16

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


cdef inline void set_canary(char* behind) noexcept nogil:
    memcpy(behind, canary, CANARY_BYTES)


cdef inline bint canary_intact(char* behind) noexcept nogil:
    return memcmp(behind, canary, CANARY_BYTES) == 0


cdef bint make_ready(Arena arena, Slot* slot) noexcept:
    """Fill a slot and put its canary behind the bytes that the user sees."""
    cdef SizeClass* c = slot.size_class
    if slot.slab.mapping.level == PLAIN:
        c.count[<int>UNLOCKED][0] += 1
        arena.unlocked += 1
        arena.unlocked_bytes = slot.nbytes
        c.nplain = min(c.nplain, c.nfree)
    set_canary(slot.memory + slot.nbytes)
    if arena.kind == SECURE:
        _os.wipe(slot.memory, slot.nbytes)
        return True
    cdef Py_ssize_t prefilled = min(slot.prefilled, slot.nbytes)
    slot.prefilled = 0
    if (<uint64_t*>slot.memory)[0] == 0:      # wiped since, as by a fork past libc
        prefilled = 0
    if is_large(slot.nbytes):
        return read_keystream(slot.memory, KEY_BYTES)      # the key from which it is filled
    return read_keystream(slot.memory + prefilled, slot.nbytes - prefilled)


cdef void overwrite(Arena arena, Slot* slot) noexcept:
    """Leave nothing of what the user wrote, and check the canary."""
    cdef Slab* slab = slot.slab
    cdef Py_ssize_t i, stride
    if not canary_intact(slot.memory + slot.nbytes):
        slot.retired = True
        slot.size_class.count[<int>DAMAGES][0] += 1
        arena.damaged_bytes = slot.nbytes
        # to the slot's end, and in the idle ones that the overrun may have reached
        stride = (<Py_ssize_t>slab.mapping.nbytes if slab.nslots == 1
                  else arena.stride(slab.size_class.size))
        for i in range(slab.nslots):
            slab.slots[i].prefilled = 0
            if &slab.slots[i] == slot or is_idle(&slab.slots[i]):
                _os.wipe(slab.slots[i].memory, stride)
        return
    if arena.kind == RANDOM and not is_large(slot.nbytes):
        # the bytes that overwrite the old ones are those that the next user of the slot gets
        slot.prefilled = slot.nbytes
        if read_keystream(slot.memory, slot.nbytes):
            return
        slot.prefilled = 0
    _os.wipe(slot.memory, slot.nbytes)


cdef void push_free_secure(Arena arena, Slot* slot) noexcept:
    cdef SizeClass* c = slot.size_class
    if slot.retired:
        c.count[<int>PUTS][0] += 1
        c.count[<int>DISCARDS][0] += 1
        if slot.slab.kind == ONE_SHOT:
            arena.unmap_one_shot(slot.slab)
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
    while n and not can_map(n * arena.stride(c.size), max(arena.min_level, MLOCK)):
        n //= 2
    return n or (nslots if arena.min_level == PLAIN else 1)
