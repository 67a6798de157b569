# Included by _core.pyx: how an arena gets its memory, and gives it back.

cdef Py_ssize_t TOUCH_BYTES = 4 * 1024 * 1024


cdef double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + t.tv_nsec * 1e-9


cdef Slab* add_slab(Arena arena, SizeClass* c, Py_ssize_t nslots, Py_ssize_t size,
                    SlabKind kind) except NULL:
    """Map a slab and count it, in the record of an unmapped one if there is one."""
    cdef Slab* slab = arena.slabs
    cdef Py_ssize_t i, stride = slot_stride(arena, size)
    while slab != NULL and (slab.mapping.memory != NULL or slab.nslots != nslots):
        slab = slab.next
    if slab == NULL:
        slab = <Slab*>calloc(1, sizeof(Slab))
        if slab == NULL:
            raise MemoryError
        slab.slots = <Slot*>calloc(nslots, sizeof(Slot))
        if slab.slots == NULL:
            free(slab)
            raise MemoryError
        slab.nslots = nslots
        slab.next = arena.slabs
        arena.slabs = slab
    cdef void* stack
    if kind != ONE_SHOT:
        stack = realloc(c.free_slots, (c.nslots + nslots) * sizeof(Slot*))
        if stack == NULL:
            raise MemoryError
        c.free_slots = <Slot**>stack
    if not map_memory(&slab.mapping, stride * nslots, arena.kind, arena.min_level):
        if arena.min_level > PLAIN:
            raise level_error(f"{arena.name} pool", nbytes=stride * nslots,
                              level=LEVELS[<int>arena.min_level])
        raise MemoryError(f"{arena.name} pool: the system refused {stride * nslots} bytes")
    slab.size_class, slab.kind = c, kind
    for i in range(nslots):
        slab.slots[i].slab = slab
        slab.slots[i].size_class = c
        slab.slots[i].memory = slab.mapping.memory + i * stride
        slab.slots[i].prefilled = slab.slots[i].retired = 0
    if kind == ONE_SHOT:
        arena.one_shot_bytes += slab.mapping.nbytes
        c.count[<int>BYTES_ALLOCATED][0] += slab.mapping.nbytes if c.size == UNBOUNDED else size
        return slab
    for i in range(nslots):
        c.free_slots[c.nfree + i] = &slab.slots[nslots - 1 - i]
    c.nfree += nslots
    c.nslots += nslots
    if arena.kind != REGULAR and slab.mapping.level == PLAIN:
        for i in range(c.nfree - nslots, c.nfree):
            keep_unlocked_last(c, i)
    c.count[<int>BYTES_ALLOCATED][0] += size * nslots
    c.count[<int>IDLE][0] = c.nfree
    c.count[<int>HELD_BYTES][0] += accounted_bytes(arena, slab)
    arena.held_bytes += accounted_bytes(arena, slab)
    return slab


cdef inline Py_ssize_t slot_stride(Arena arena, Py_ssize_t size) noexcept:
    """Return the bytes from slot to slot: whole cache lines, and one for a secure canary."""
    return (size + 63) // 64 * 64 + (0 if arena.kind == REGULAR else 64)


cdef inline Py_ssize_t accounted_bytes(Arena arena, Slab* slab) noexcept:
    """Return what a slab counts under the cap: canaries and guards come on top."""
    if arena.kind == REGULAR:
        return slab.mapping.nbytes
    return slab.nslots * slab.size_class.size


cdef Py_ssize_t headroom(Arena arena) noexcept:
    """Return the bytes left under the cap; one-shot slabs count unless they may exceed it."""
    return arena.max_bytes - arena.held_bytes - (0 if arena.lend_at_limit else arena.one_shot_bytes)


cdef Py_ssize_t slots_within_cap(Arena arena, Py_ssize_t size) noexcept:
    """Return how many slots of that size may still be mapped under the cap, in whole pages."""
    cdef Py_ssize_t page = page_bytes()
    if arena.kind != REGULAR:
        return headroom(arena) // size
    return headroom(arena) // page * page // slot_stride(arena, size)


cdef void unmap_one_shot(Arena arena, Slab* slab) noexcept:
    arena.one_shot_bytes -= slab.mapping.nbytes
    unmap_memory(&slab.mapping)


cdef Py_ssize_t shrink(Arena arena, SlabKind highest, bint all_idle) noexcept:
    """Unmap idle slabs, all or those not needed since the last time; return their bytes."""
    cdef Slab* slab = arena.slabs
    cdef SizeClass* c
    cdef Py_ssize_t i, n, before = arena.held_bytes
    while slab != NULL:
        c = slab.size_class
        if (slab.mapping.memory != NULL and ONE_SHOT < slab.kind <= highest
                and all_idle_in(slab) and (all_idle or slab.nslots <= c.low_water)):
            n = 0
            if arena.kind != REGULAR and slab.mapping.level == PLAIN:
                for i in range(c.nplain):
                    n += c.free_slots[i].slab == slab
                c.nplain -= n
                n = 0
            for i in range(c.nfree):
                if c.free_slots[i].slab != slab:
                    c.free_slots[n] = c.free_slots[i]
                    n += 1
            c.nfree = n
            c.nslots -= slab.nslots
            c.low_water -= slab.nslots
            c.count[<int>IDLE][0] = c.nfree
            c.count[<int>HELD_BYTES][0] -= accounted_bytes(arena, slab)
            arena.held_bytes -= accounted_bytes(arena, slab)
            unmap_memory(&slab.mapping)
        slab = slab.next
    for i in range(arena.nclasses):
        arena.classes[i].low_water = arena.classes[i].nfree
    return before - arena.held_bytes


cdef Py_ssize_t prewarm(Arena arena, SizeClass* c, Py_ssize_t nslots, double deadline) except -1:
    """Map and touch what is missing to `nslots` warm slots; return how many are touched."""
    cdef Slab* slab = arena.slabs
    cdef Py_ssize_t there = 0
    while slab != NULL:
        if slab.size_class == c and slab.kind == PREWARMED and slab.mapping.memory != NULL:
            there += slab.nslots
        slab = slab.next
    if there < nslots and nslots - there > slots_within_cap(arena, c.size):
        raise LimitExceeded(f"{arena.name} pool: {nslots} buffers of {c.size} bytes to warm "
                            f"while {arena.max_bytes - headroom(arena)} of at most "
                            f"{arena.max_bytes} (bufpool_max_bytes) are held")
    # one slab, or two near the limit on locked memory: a locked one and another
    while there < nslots and now() < deadline:
        slab = add_slab(arena, c, slots_to_lock(arena, c, nslots - there), c.size, PREWARMED)
        there += touch_slab(arena, slab, deadline)
    return min(there, nslots)


cdef Py_ssize_t touch_slab(Arena arena, Slab* slab, double deadline) noexcept:
    """Make a slab's pages present until the deadline; return how many slots lie in them."""
    cdef Py_ssize_t at = 0, step
    while at < <Py_ssize_t>slab.mapping.nbytes and now() < deadline:
        step = min(TOUCH_BYTES, <Py_ssize_t>slab.mapping.nbytes - at)
        touch(slab.mapping.memory + at, step)
        at += step
    return min(slab.nslots, at // slot_stride(arena, slab.size_class.size))
