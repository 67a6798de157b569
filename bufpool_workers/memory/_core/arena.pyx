# Included by _core.pyx: a pool in one process, where buffers are taken and returned.

cdef Py_ssize_t GROWTH_BYTES = 64 * 1024

cdef uint64_t last_checkout_id = 0


def checkouts():
    """Return how many buffers this process has lent, the one that it was forked from included."""
    return last_checkout_id


@cython.final
@cython.no_gc_clear     # buffers that are out need all of it
cdef class Arena:
    """The memory of a pool in one process: slabs, free stacks, counters."""

    cdef SizeClass* classes        # the last one is unbounded and keeps no slots
    cdef Py_ssize_t nclasses
    cdef Slab* slabs
    cdef uint64_t generation       # of the process that may change anything here
    cdef uint64_t open_generation  # the same, until the pool is closed
    cdef Kind kind
    cdef str name
    cdef Level min_level           # of protection, for secure and random memory
    cdef Py_ssize_t held_bytes     # in slabs that are kept
    cdef Py_ssize_t max_bytes      # their cap
    cdef Py_ssize_t one_shot_bytes
    cdef Py_ssize_t lent           # slots that are checked out
    cdef Py_ssize_t damaged_bytes  # of the last slot that was written past its end, or -1
    cdef Py_ssize_t unlocked       # lent below their level, and not reported yet
    cdef Py_ssize_t unlocked_bytes # of the last of these
    cdef bint lend_at_limit        # maps one-shot slabs beyond the cap
    cdef bint over_cap             # it did
    cdef bint cap_warned           # and that was logged
    cdef double* private_block
    cdef Py_buffer shared
    cdef bint is_shared            # the counters lie in `shared`
    cdef dict places               # slot: where it was acquired; None unless debugging
    cdef dict tallies              # task: its TaskTally; None unless tasks are counted
    cdef bint is_plain             # nothing but a stack is to be seen to when a slot comes back

    def __cinit__(self, str name, Kind kind, tuple sizes, Py_ssize_t max_bytes,
                  bint lend_at_limit, Level min_level, bint debug, bint by_task=False):
        cdef Py_ssize_t i, j
        make_canary()
        self.name, self.kind, self.min_level = name, kind, min_level
        self.max_bytes, self.lend_at_limit = max_bytes, lend_at_limit
        self.damaged_bytes = -1
        self.generation = self.open_generation = generation
        self.places = {} if debug else None
        self.tallies = {} if by_task else None
        self.is_plain = kind == REGULAR and not by_task
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

    cdef Slot* slot_for_miss(self, SizeClass* c, Py_ssize_t nbytes) except NULL:
        """Map memory and return a slot of it that is on no stack."""
        cdef Py_ssize_t nslots
        if c.size == UNBOUNDED:
            if self.lend_at_limit or nbytes <= headroom(self):
                return &add_slab(self, c, 1, nbytes, ONE_SHOT).slots[0]
        else:
            nslots = min(max(GROWTH_BYTES // c.size, 1), slots_within_cap(self, c.size))
            if nslots > 0:
                add_slab(self, c, slots_to_lock(self, c, nslots), c.size, ON_DEMAND)
                return self.pop(c)
        c.count[<int>LIMIT_HITS][0] += 1
        if not self.lend_at_limit:
            raise LimitExceeded(f"{self.name} pool: {nbytes} bytes asked while "
                                f"{self.max_bytes - headroom(self)} of at most {self.max_bytes} "
                                "(bufpool_max_bytes) are held")
        self.over_cap = True
        return &add_slab(self, c, 1, c.size, ONE_SHOT).slots[0]

    cdef inline Slot* pop(self, SizeClass* c) noexcept:
        c.nfree -= 1
        if c.nfree < c.low_water:
            c.low_water = c.nfree
        c.count[<int>IDLE][0] = c.nfree
        return c.free_slots[c.nfree]

    cdef inline Slot* take_slot(self, Py_ssize_t nbytes, uint64_t scope) except NULL:
        """Check out a slot of at least `nbytes`, under the next `checkout_id`."""
        global last_checkout_id
        cdef SizeClass* c = self.classes
        cdef Slot* slot
        while c.size < nbytes:
            c += 1
        if c.nfree:
            slot = self.pop(c)
            c.count[<int>HITS][0] += 1
            c.count[<int>BYTES_REUSED][0] += c.size
        else:
            slot = self.slot_for_miss(c, nbytes)
            c.count[<int>MISSES][0] += 1
        c.count[<int>GETS][0] += 1
        last_checkout_id += 1
        slot.checkout_id = last_checkout_id
        self.lent += 1
        slot.scope = scope
        slot.nbytes = nbytes
        if self.kind != REGULAR and not make_ready(self, slot):
            self.return_slot(slot)
            raise OSError(f"{self.name} pool: the system gave no random bytes (getentropy)")
        return slot

    cdef inline void return_slot(self, Slot* slot) noexcept:
        """End a checkout; a slot that has views waits in quarantine for the last one."""
        slot.checkout_id = 0
        self.lent -= 1
        if self.generation != generation:
            return
        if not self.is_plain:
            if slot.tally != NULL:
                slot.tally.held -= slot.nbytes
                slot.tally = NULL
            if self.kind != REGULAR:
                self.return_secure(slot)
                return
        if slot.exports == 0:
            self.push_free(slot)

    cdef void return_secure(self, Slot* slot) noexcept:
        overwrite(self, slot)
        if slot.exports == 0:
            push_free_secure(self, slot)

    cdef void last_view_died(self, Slot* slot) noexcept:
        """Free a slot whose views outlived its checkout."""
        if self.kind == REGULAR:
            self.push_free(slot)
            return
        overwrite_viewed(self, slot)
        push_free_secure(self, slot)

    cdef int report_cap(self) except -1:
        """Log, once in a process, that its cap is too low; views that are kept are a cause."""
        cdef Py_ssize_t i
        cdef double escapes = 0
        if self.cap_warned:
            return 0
        self.cap_warned = True
        for i in range(self.nclasses):
            escapes += self.classes[i].count[<int>ESCAPES][0]
        logger.warning("bufpool: %s pool: buffers were asked for beyond its cap, %d bytes "
                       "(bufpool_max_bytes), of which %d are held; they are mapped for one use "
                       "each; %d views have outlived their buffer in this process so far",
                       self.name, self.max_bytes, self.held_bytes, escapes)
        return 0

    cdef inline void push_free(self, Slot* slot) noexcept:
        """Put a slot back that is neither checked out nor viewed."""
        cdef Slab* slab = slot.slab
        cdef SizeClass* c = slot.size_class
        c.count[<int>PUTS][0] += 1
        if slab.kind == ONE_SHOT:
            c.count[<int>DISCARDS][0] += 1
            unmap_one_shot(self, slab)
            return
        c.free_slots[c.nfree] = slot
        c.nfree += 1
        c.count[<int>IDLE][0] = c.nfree
        if not self.open_generation:
            c.count[<int>DISCARDS][0] += 1
            shrink(self, PREWARMED, True)

    cdef list reclaim(self, uint64_t scope, bint everything):
        """Take back what a scope holds, or everything; return (kind, bytes, viewed, place)."""
        cdef Slab* slab = self.slabs
        cdef Slot* slot
        cdef uint64_t last = last_checkout_id    # finalizers may lend others during the loop
        cdef Py_ssize_t i, nbytes, unseen = self.lent
        cdef bint viewed
        cdef str place
        found = []
        while slab != NULL and unseen > 0:
            for i in range(slab.nslots):
                slot = &slab.slots[i]
                unseen -= 0 < slot.checkout_id <= last
                if slot.checkout_id and (everything or slot.scope == scope):
                    nbytes, viewed, place = slot.nbytes, slot.exports > 0, self.place(slot)
                    self.count_reclaim(slot)
                    self.return_slot(slot)
                    # last: a new tuple may start the garbage collector, and its finalizers may
                    # use this pool
                    found.append((self.name, nbytes, viewed, place))
            slab = slab.next
        return found

    cdef void count_reclaim(self, Slot* slot) noexcept:
        slot.size_class.count[<int>RECLAIMS][0] += 1
        if slot.tally != NULL:
            slot.tally.count[<int>TASK_RECLAIMS][0] += 1
        if slot.exports:
            self.count_escape(slot)

    cdef void count_escape(self, Slot* slot) noexcept:
        slot.size_class.count[<int>ESCAPES][0] += 1
        if slot.tally != NULL:
            slot.tally.count[<int>TASK_ESCAPES][0] += 1

    cdef str place(self, Slot* slot):
        return None if self.places is None else self.places.get(<size_t>slot)
