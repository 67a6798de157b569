# Included by _core.pyx, not a module of its own: the way of a lending has to be one piece of C for
# the compiler.

cdef enum Field:     # as stats.FIELDS
    GETS, PUTS, HITS, MISSES, DISCARDS, BYTES_ALLOCATED, BYTES_REUSED, ESCAPES, RECLAIMS,
    LIMIT_HITS, UNLOCKED, IDLE, HELD_BYTES, NFIELDS

cdef enum Keep:
    LOOSE     # one slot, mapped for one use
    GROWN     # mapped for a miss; trim gives it back
    WARM      # mapped by warm(); stays

cdef struct Slot:
    char* memory
    uint64_t lease         # 0: not lent
    uint64_t scope         # the task that took it; 0: none
    Py_ssize_t exports     # views alive now
    Py_ssize_t nbytes      # what this lending may see
    Py_ssize_t fresh       # random kind: leading bytes that nobody has seen
    SizeClass* size_class
    Slab* slab

cdef struct Slab:
    Mapping mapping
    SizeClass* size_class
    Slot* slots
    Py_ssize_t nslots
    Keep keep
    Slab* next

cdef struct SizeClass:
    Py_ssize_t size        # the most that a slot lends
    Slot** free_slots      # a stack
    Py_ssize_t nfree
    Py_ssize_t room        # slots that the stack has room for: all that exist
    Py_ssize_t low         # the least nfree since the last trim
    double* count[<int>NFIELDS]

cdef Py_ssize_t GROWTH_BYTES = 64 * 1024
cdef Py_ssize_t TOUCH_BYTES = 4 * 1024 * 1024
cdef Py_ssize_t UNBOUNDED = (<size_t>-1) >> 1

cdef uint64_t generation = 1       # of this process; the child of a fork gets the next
cdef uint64_t last_lease = 0


cdef void after_fork_in_child() noexcept nogil:
    global generation
    generation += 1

if _sys.pthread_atfork(NULL, NULL, after_fork_in_child):
    raise MemoryError("no room for a fork handler")


cdef double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + t.tv_nsec * 1e-9


cdef bint fill_random(char* memory, Py_ssize_t nbytes) noexcept nogil:
    """Random bytes from the kernel, 256 at a time as getentropy(3) asks."""
    cdef Py_ssize_t at = 0
    while at < nbytes:
        if _sys.getentropy(memory + at, min(256, nbytes - at)):
            return False
        at += 256
    return True


cdef inline bint is_idle(Slab* slab) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(slab.nslots):
        if slab.slots[i].lease or slab.slots[i].exports:
            return False
    return True


@cython.final
cdef class Arena:
    """What a pool holds in one process: slabs, free stacks, counters."""

    cdef SizeClass* classes        # the last one is unbounded and keeps no slots
    cdef Py_ssize_t nclasses
    cdef Slab* slabs
    cdef uint64_t made_in          # the process that may change anything here
    cdef uint64_t open_in          # the same, until the pool is closed
    cdef Kind kind
    cdef str name
    cdef Py_ssize_t held, most     # bytes in slabs that are kept, and their cap
    cdef double* private_block
    cdef Py_buffer shared
    cdef bint is_shared            # whether the counters lie in `shared`
    cdef dict places               # slot: where it was acquired; None unless debugging

    def __cinit__(self, str name, Kind kind, tuple sizes, Py_ssize_t most, bint debug):
        cdef Py_ssize_t i, j
        self.name, self.kind, self.most = name, kind, most
        self.made_in = self.open_in = generation
        self.places = {} if debug else None
        self.nclasses = len(sizes) + 1
        self.classes = <SizeClass*>calloc(self.nclasses, sizeof(SizeClass))
        self.private_block = <double*>calloc(self.nclasses * <int>NFIELDS, sizeof(double))
        if self.classes == NULL or self.private_block == NULL:
            raise MemoryError
        for i in range(self.nclasses):
            self.classes[i].size = sizes[i] if i < self.nclasses - 1 else UNBOUNDED
            for j in range(<int>NFIELDS):
                self.classes[i].count[j] = self.private_block + i * <int>NFIELDS + j

    def __dealloc__(self):
        cdef Slab* slab = self.slabs
        cdef Py_ssize_t i
        while slab != NULL:
            self.slabs = slab.next
            unmap_memory(&slab.mapping)
            free(slab.slots)
            free(slab)
            slab = self.slabs
        if self.classes != NULL:
            for i in range(self.nclasses):
                free(self.classes[i].free_slots)
        free(self.classes)
        free(self.private_block)
        if self.is_shared:
            PyBuffer_Release(&self.shared)

    cdef Slab* add_slab(self, SizeClass* c, Py_ssize_t nslots, Py_ssize_t size,
                        Keep keep) except NULL:
        """Map a slab and count it; the record of a slab that was given back serves again."""
        cdef Slab* slab = self.slabs
        cdef Py_ssize_t i, stride = (size + 63) // 64 * 64
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
            slab.next = self.slabs
            self.slabs = slab
        cdef void* stack
        if keep != LOOSE:
            stack = realloc(c.free_slots, (c.room + nslots) * sizeof(Slot*))
            if stack == NULL:
                raise MemoryError
            c.free_slots = <Slot**>stack
        if not map_memory(&slab.mapping, stride * nslots, self.kind):
            raise MemoryError(f"{self.name} pool: the system refused {stride * nslots} bytes")
        slab.size_class, slab.keep = c, keep
        for i in range(nslots):
            slab.slots[i].slab = slab
            slab.slots[i].size_class = c
            slab.slots[i].memory = slab.mapping.memory + i * stride
            slab.slots[i].fresh = 0
        if keep == LOOSE:
            c.count[<int>BYTES_ALLOCATED][0] += slab.mapping.nbytes
            return slab
        for i in range(nslots):
            c.free_slots[c.nfree + i] = &slab.slots[nslots - 1 - i]
        c.nfree += nslots
        c.room += nslots
        c.count[<int>BYTES_ALLOCATED][0] += size * nslots
        c.count[<int>IDLE][0] = c.nfree
        c.count[<int>HELD_BYTES][0] += slab.mapping.nbytes
        self.held += slab.mapping.nbytes
        return slab

    cdef Py_ssize_t fitting(self, Py_ssize_t size) noexcept:
        """How many slots of that size may still be mapped under the cap, in whole pages."""
        cdef Py_ssize_t page = page_bytes()
        return (self.most - self.held) // page * page // ((size + 63) // 64 * 64)

    cdef Slot* slot_for_miss(self, SizeClass* c, Py_ssize_t nbytes, bint lend) except NULL:
        """A slot from memory mapped now, on no stack."""
        cdef Py_ssize_t nslots
        if c.size == UNBOUNDED:
            return &self.add_slab(c, 1, nbytes, LOOSE).slots[0]
        nslots = min(max(GROWTH_BYTES // c.size, 1), self.fitting(c.size))
        if nslots > 0:
            self.add_slab(c, nslots, c.size, GROWN)
            return self.pop(c)
        c.count[<int>LIMIT_HITS][0] += 1
        if not lend:
            raise LimitExceeded(f"{self.name} pool: {nbytes} bytes asked while {self.held} of at "
                                f"most {self.most} (bufpool_max_bytes) are held")
        return &self.add_slab(c, 1, c.size, LOOSE).slots[0]

    cdef inline Slot* pop(self, SizeClass* c) noexcept:
        c.nfree -= 1
        if c.nfree < c.low:
            c.low = c.nfree
        c.count[<int>IDLE][0] = c.nfree
        return c.free_slots[c.nfree]

    cdef inline Slot* lend(self, Py_ssize_t nbytes, uint64_t scope,
                           bint lend_at_limit) except NULL:
        """Lend a slot of at least `nbytes`; `slot.lease` is the number of this lending."""
        global last_lease
        cdef SizeClass* c = self.classes
        cdef Slot* slot
        while c.size < nbytes:
            c += 1
        if c.nfree:
            slot = self.pop(c)
            c.count[<int>HITS][0] += 1
            c.count[<int>BYTES_REUSED][0] += c.size
        else:
            slot = self.slot_for_miss(c, nbytes, lend_at_limit)
            c.count[<int>MISSES][0] += 1
        c.count[<int>GETS][0] += 1
        last_lease += 1
        slot.lease = last_lease
        slot.scope = scope
        slot.nbytes = nbytes
        if self.kind == SECURE:
            _sys.wipe(slot.memory, nbytes)
        elif self.kind == RANDOM and slot.fresh < nbytes:
            if not fill_random(slot.memory + slot.fresh, nbytes - slot.fresh):
                self.take_back(slot)
                raise OSError(f"{self.name} pool: the system gave no random bytes (getentropy)")
            slot.fresh = nbytes
        return slot

    cdef inline void take_back(self, Slot* slot) noexcept:
        """End a lending; the slot waits in quarantine while anything still views it."""
        slot.lease = 0
        if self.made_in != generation:
            return
        if self.kind == SECURE:
            _sys.wipe(slot.memory, slot.nbytes)
        elif self.kind == RANDOM:
            # what is written over the old bytes is what the next one to take the slot gets
            if not fill_random(slot.memory, slot.nbytes):
                _sys.wipe(slot.memory, slot.nbytes)
                slot.fresh = 0
        if slot.exports == 0:
            self.settle(slot)

    cdef inline void settle(self, Slot* slot) noexcept:
        """Make a slot that nobody lends or views free again."""
        cdef Slab* slab = slot.slab
        cdef SizeClass* c = slot.size_class
        c.count[<int>PUTS][0] += 1
        if slab.keep == LOOSE:
            c.count[<int>DISCARDS][0] += 1
            unmap_memory(&slab.mapping)
            return
        c.free_slots[c.nfree] = slot
        c.nfree += 1
        c.count[<int>IDLE][0] = c.nfree
        if not self.open_in:
            c.count[<int>DISCARDS][0] += 1
            self.shrink(WARM, True)

    cdef Py_ssize_t shrink(self, Keep highest, bint all_idle) noexcept:
        """Unmap idle slabs, those not needed since the last time or all; gives their bytes."""
        cdef Slab* slab = self.slabs
        cdef SizeClass* c
        cdef Py_ssize_t i, n, before = self.held
        while slab != NULL:
            c = slab.size_class
            if (slab.mapping.memory != NULL and LOOSE < slab.keep <= highest and is_idle(slab)
                    and (all_idle or slab.nslots <= c.low)):
                n = 0
                for i in range(c.nfree):
                    if c.free_slots[i].slab != slab:
                        c.free_slots[n] = c.free_slots[i]
                        n += 1
                c.nfree = n
                c.room -= slab.nslots
                c.low -= slab.nslots
                c.count[<int>IDLE][0] = c.nfree
                c.count[<int>HELD_BYTES][0] -= slab.mapping.nbytes
                self.held -= slab.mapping.nbytes
                unmap_memory(&slab.mapping)
            slab = slab.next
        for i in range(self.nclasses):
            self.classes[i].low = self.classes[i].nfree
        return before - self.held

    cdef list reclaim(self, uint64_t scope):
        """Take back all that a scope still holds; gives (bytes, viewed, place) of each."""
        cdef Slab* slab = self.slabs
        cdef Slot* slot
        cdef Py_ssize_t i
        found = []
        while slab != NULL:
            for i in range(slab.nslots):
                slot = &slab.slots[i]
                if slot.lease and slot.scope == scope:
                    found.append((slot.nbytes, slot.exports > 0, self.place(slot)))
                    self.count_reclaim(slot)
                    self.take_back(slot)
            slab = slab.next
        return found

    cdef void count_reclaim(self, Slot* slot) noexcept:
        slot.size_class.count[<int>RECLAIMS][0] += 1
        if slot.exports:
            slot.size_class.count[<int>ESCAPES][0] += 1

    cdef str place(self, Slot* slot):
        return None if self.places is None else self.places.get(<size_t>slot)

    cdef str acquired_at(self, Slot* slot):
        where = self.place(slot)
        return "" if where is None else f", acquired at {where}"

    cdef Py_ssize_t warm(self, SizeClass* c, Py_ssize_t nslots, double deadline) except -1:
        """Map what is missing to `nslots` warm ones and touch it; gives how many are touched."""
        cdef Slab* slab = self.slabs
        cdef Py_ssize_t at = 0, there = 0, stride, step
        while slab != NULL:
            if slab.size_class == c and slab.keep == WARM and slab.mapping.memory != NULL:
                there += slab.nslots
            slab = slab.next
        if there >= nslots:
            return nslots
        if nslots - there > self.fitting(c.size):
            raise LimitExceeded(f"{self.name} pool: {nslots} buffers of {c.size} bytes to be warmed "
                                f"while {self.held} of at most {self.most} (bufpool_max_bytes) "
                                "are held")
        if now() >= deadline:
            return there
        slab = self.add_slab(c, nslots - there, c.size, WARM)
        while at < <Py_ssize_t>slab.mapping.nbytes and now() < deadline:
            step = min(TOUCH_BYTES, <Py_ssize_t>slab.mapping.nbytes - at)
            touch(slab.mapping.memory + at, step)
            at += step
        stride = (c.size + 63) // 64 * 64
        return min(nslots, there + at // stride)

    cdef int bind(self, object block, tuple offsets) except -1:
        """Move the counters into `block`, one float64 at each offset; values are carried over."""
        cdef Py_buffer view
        cdef Py_ssize_t i, at, n = self.nclasses * <int>NFIELDS
        cdef double* new
        if len(offsets) != n:
            raise ValueError(f"{self.name} pool: {len(offsets)} counter offsets, {n} are needed")
        PyObject_GetBuffer(block, &view, PyBUF_WRITABLE)
        try:
            for at in offsets:
                if at < 0 or at % 8 or at + 8 > view.len:
                    raise ValueError(f"{self.name} pool: counter offset {at} is not a multiple of "
                                     f"8 inside a block of {view.len} bytes")
        except BaseException:
            PyBuffer_Release(&view)
            raise
        for i in range(n):
            at = offsets[i]
            new = <double*>(<char*>view.buf + at)
            new[0] = self.classes[i // <int>NFIELDS].count[i % <int>NFIELDS][0]
            self.classes[i // <int>NFIELDS].count[i % <int>NFIELDS] = new
        if self.is_shared:
            PyBuffer_Release(&self.shared)
        self.shared = view
        self.is_shared = True
        return 0
