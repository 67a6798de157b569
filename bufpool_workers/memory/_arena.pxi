# Included by _core.pyx, not a module of its own: the way of a lending has to be one piece of C for
# the compiler.

cdef enum Field:     # as stats.FIELDS
    GETS, PUTS, HITS, MISSES, DISCARDS, BYTES_ALLOCATED, BYTES_REUSED, ESCAPES, RECLAIMS,
    LIMIT_HITS, UNLOCKED, DAMAGES, IDLE, HELD_BYTES, NFIELDS

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
    bint retired           # something wrote past its end: not lent again
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
    Py_ssize_t nplain      # of these, at the bottom: secure ones that could not be locked
    Py_ssize_t room        # slots that the stack has room for: all that exist
    Py_ssize_t low         # the least nfree since the last trim
    double* count[<int>NFIELDS]

cdef Py_ssize_t GROWTH_BYTES = 64 * 1024
cdef Py_ssize_t TOUCH_BYTES = 4 * 1024 * 1024
cdef Py_ssize_t UNBOUNDED = (<size_t>-1) >> 1

cdef uint64_t last_lease = 0


cdef double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + t.tv_nsec * 1e-9


cdef inline bint is_idle(Slab* slab) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(slab.nslots):
        if slab.slots[i].lease or slab.slots[i].exports:
            return False
    return True


@cython.final
@cython.no_gc_clear     # buffers that are out need all of it
cdef class Arena:
    """What a pool holds in one process: slabs, free stacks, counters."""

    cdef SizeClass* classes        # the last one is unbounded and keeps no slots
    cdef Py_ssize_t nclasses
    cdef Slab* slabs
    cdef uint64_t made_in          # the process that may change anything here
    cdef uint64_t open_in          # the same, until the pool is closed
    cdef Kind kind
    cdef str name
    cdef Level least               # of protection, for secure and random memory
    cdef Py_ssize_t held, most     # bytes in slabs that are kept, and their cap
    cdef Py_ssize_t loose          # bytes mapped for one use
    cdef Py_ssize_t damaged        # bytes of the last slot that was written past its end, or -1
    cdef bint lend_at_limit        # memory mapped for one use, beyond the cap
    cdef bint beyond_cap, told     # whether that was done, and logged
    cdef double* private_block
    cdef Py_buffer shared
    cdef bint is_shared            # whether the counters lie in `shared`
    cdef dict places               # slot: where it was acquired; None unless debugging

    def __cinit__(self, str name, Kind kind, tuple sizes, Py_ssize_t most, bint lend_at_limit,
                  Level least, bint debug):
        cdef Py_ssize_t i, j
        make_canary()
        self.name, self.kind, self.least = name, kind, least
        self.most, self.lend_at_limit = most, lend_at_limit
        self.damaged = -1
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
        cdef Py_ssize_t i, stride = self.stride(size)
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
        if not map_memory(&slab.mapping, stride * nslots, self.kind, self.least):
            if self.least > PLAIN:
                raise unmet(f"{self.name} pool", nbytes=stride * nslots,
                            level=LEVELS[<int>self.least])
            raise MemoryError(f"{self.name} pool: the system refused {stride * nslots} bytes")
        slab.size_class, slab.keep = c, keep
        for i in range(nslots):
            slab.slots[i].slab = slab
            slab.slots[i].size_class = c
            slab.slots[i].memory = slab.mapping.memory + i * stride
            slab.slots[i].fresh = slab.slots[i].retired = 0
        if keep == LOOSE:
            self.loose += slab.mapping.nbytes
            c.count[<int>BYTES_ALLOCATED][0] += slab.mapping.nbytes if c.size == UNBOUNDED else size
            return slab
        for i in range(nslots):
            c.free_slots[c.nfree + i] = &slab.slots[nslots - 1 - i]
        c.nfree += nslots
        c.room += nslots
        if self.kind != REGULAR and slab.mapping.level == PLAIN:
            for i in range(c.nfree - nslots, c.nfree):
                self.sink(c, i)
        c.count[<int>BYTES_ALLOCATED][0] += size * nslots
        c.count[<int>IDLE][0] = c.nfree
        c.count[<int>HELD_BYTES][0] += self.charge(slab)
        self.held += self.charge(slab)
        return slab

    cdef inline Py_ssize_t stride(self, Py_ssize_t size) noexcept:
        """From slot to slot: whole cache lines, with room for a canary behind a secure one."""
        return (size + 63) // 64 * 64 + (0 if self.kind == REGULAR else 64)

    cdef inline Py_ssize_t charge(self, Slab* slab) noexcept:
        """What a slab counts under the cap: canaries and guards come on top."""
        if self.kind == REGULAR:
            return slab.mapping.nbytes
        return slab.nslots * slab.size_class.size

    cdef Py_ssize_t room(self) noexcept:
        """Bytes left under the cap, which memory for one use counts for unless it may exceed it."""
        return self.most - self.held - (0 if self.lend_at_limit else self.loose)

    cdef Py_ssize_t fitting(self, Py_ssize_t size) noexcept:
        """How many slots of that size may still be mapped under the cap, in whole pages."""
        cdef Py_ssize_t page = page_bytes()
        if self.kind != REGULAR:
            return self.room() // size
        return self.room() // page * page // self.stride(size)

    cdef Py_ssize_t lockable(self, SizeClass* c, Py_ssize_t nslots) noexcept:
        """As many of `nslots` as can be locked together now; where none can, all, if they may."""
        cdef Py_ssize_t n = nslots
        if self.kind == REGULAR:
            return nslots
        while n and not can_map(n * self.stride(c.size), max(self.least, MLOCK)):
            n //= 2
        return n or (nslots if self.least == PLAIN else 1)

    cdef inline void sink(self, SizeClass* c, Py_ssize_t i) noexcept:
        """Move the slot at `i` to the unlocked ones at the stack's bottom, to be lent last."""
        c.free_slots[i], c.free_slots[c.nplain] = c.free_slots[c.nplain], c.free_slots[i]
        c.nplain += 1

    cdef Slot* slot_for_miss(self, SizeClass* c, Py_ssize_t nbytes) except NULL:
        """A slot from memory mapped now, on no stack."""
        cdef Py_ssize_t nslots
        if c.size == UNBOUNDED:
            if self.lend_at_limit or nbytes <= self.room():
                return &self.add_slab(c, 1, nbytes, LOOSE).slots[0]
        else:
            nslots = min(max(GROWTH_BYTES // c.size, 1), self.fitting(c.size))
            if nslots > 0:
                self.add_slab(c, self.lockable(c, nslots), c.size, GROWN)
                return self.pop(c)
        c.count[<int>LIMIT_HITS][0] += 1
        if not self.lend_at_limit:
            raise LimitExceeded(f"{self.name} pool: {nbytes} bytes asked while "
                                f"{self.most - self.room()} of at most {self.most} "
                                "(bufpool_max_bytes) are held")
        self.beyond_cap = True
        return &self.add_slab(c, 1, c.size, LOOSE).slots[0]

    cdef inline Slot* pop(self, SizeClass* c) noexcept:
        c.nfree -= 1
        if c.nfree < c.low:
            c.low = c.nfree
        c.count[<int>IDLE][0] = c.nfree
        return c.free_slots[c.nfree]

    cdef inline Slot* lend(self, Py_ssize_t nbytes, uint64_t scope) except NULL:
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
            slot = self.slot_for_miss(c, nbytes)
            c.count[<int>MISSES][0] += 1
        c.count[<int>GETS][0] += 1
        last_lease += 1
        slot.lease = last_lease
        slot.scope = scope
        slot.nbytes = nbytes
        if self.kind != REGULAR and not self.make_ready(slot):
            self.take_back(slot)
            raise OSError(f"{self.name} pool: the system gave no random bytes (getentropy)")
        return slot

    cdef bint make_ready(self, Slot* slot) noexcept:
        """Fill a secure or random slot and put its canary behind what the user gets to see."""
        cdef SizeClass* c = slot.size_class
        if slot.slab.mapping.level == PLAIN:
            c.count[<int>UNLOCKED][0] += 1
            c.nplain = min(c.nplain, c.nfree)
        set_canary(slot.memory + slot.nbytes)
        if self.kind == SECURE:
            _sys.wipe(slot.memory, slot.nbytes)
            return True
        cdef Py_ssize_t fresh = min(slot.fresh, slot.nbytes)
        slot.fresh = 0
        if is_large(slot.nbytes):
            return take_random(slot.memory, KEY_BYTES)      # the key from which it is filled
        return take_random(slot.memory + fresh, slot.nbytes - fresh)

    cdef inline void take_back(self, Slot* slot) noexcept:
        """End a lending; the slot waits in quarantine while anything still views it."""
        slot.lease = 0
        if self.made_in != generation:
            return
        if self.kind != REGULAR:
            self.overwrite(slot)
            if slot.exports == 0:
                self.settle_secure(slot)
            return
        if slot.exports == 0:
            self.settle(slot)

    cdef void overwrite(self, Slot* slot) noexcept:
        """Leave nothing of what the user wrote, and see whether it was more than was lent."""
        cdef Slab* slab = slot.slab
        cdef Py_ssize_t i, stride
        if not canary_lives(slot.memory + slot.nbytes):
            slot.retired = True
            slot.size_class.count[<int>DAMAGES][0] += 1
            self.damaged = slot.nbytes
            # to the slot's end, and in the idle ones that it may have reached
            stride = (<Py_ssize_t>slab.mapping.nbytes if slab.nslots == 1
                      else self.stride(slab.size_class.size))
            for i in range(slab.nslots):
                slab.slots[i].fresh = 0
                if &slab.slots[i] == slot or not (slab.slots[i].lease or slab.slots[i].exports):
                    _sys.wipe(slab.slots[i].memory, stride)
            return
        if self.kind == RANDOM and not is_large(slot.nbytes):
            # what is written over the old bytes is what the next one to take the slot gets
            slot.fresh = slot.nbytes
            if take_random(slot.memory, slot.nbytes):
                return
            slot.fresh = 0
        _sys.wipe(slot.memory, slot.nbytes)

    cdef void unmap_loose(self, Slab* slab) noexcept:
        self.loose -= slab.mapping.nbytes
        unmap_memory(&slab.mapping)

    cdef void settle_secure(self, Slot* slot) noexcept:
        cdef SizeClass* c = slot.size_class
        if slot.retired:
            c.count[<int>PUTS][0] += 1
            c.count[<int>DISCARDS][0] += 1
            if slot.slab.keep == LOOSE:
                self.unmap_loose(slot.slab)
            return
        self.settle(slot)
        if c.nfree and c.free_slots[c.nfree - 1] == slot and slot.slab.mapping.level == PLAIN:
            self.sink(c, c.nfree - 1)

    cdef void last_view_died(self, Slot* slot) noexcept:
        """Let a slot go free whose views outlived its lending."""
        if self.kind == REGULAR:
            self.settle(slot)
            return
        # by its views it could be read and written up to now
        _sys.wipe(slot.memory, slot.nbytes)
        slot.fresh = 0
        self.settle_secure(slot)

    cdef int report_damage(self) except -1:
        """Log what `overwrite` found, where Python code may run again."""
        nbytes, self.damaged = self.damaged, -1
        logger.error("bufpool: %s pool: something wrote past the end of a buffer of %d bytes; its "
                     "memory is not lent again", self.name, nbytes)
        return 0

    cdef int report_cap(self) except -1:
        """Log, once in a process, that its cap does not suffice; views that are kept are a cause."""
        cdef Py_ssize_t i
        cdef double escapes = 0
        if self.told:
            return 0
        self.told = True
        for i in range(self.nclasses):
            escapes += self.classes[i].count[<int>ESCAPES][0]
        logger.warning("bufpool: %s pool: buffers were asked for beyond its cap, %d bytes "
                       "(bufpool_max_bytes), of which %d are held; they are mapped for one use "
                       "each; %d views have outlived their buffer in this process so far",
                       self.name, self.most, self.held, escapes)
        return 0

    cdef inline void settle(self, Slot* slot) noexcept:
        """Make a slot that nobody lends or views free again."""
        cdef Slab* slab = slot.slab
        cdef SizeClass* c = slot.size_class
        c.count[<int>PUTS][0] += 1
        if slab.keep == LOOSE:
            c.count[<int>DISCARDS][0] += 1
            self.unmap_loose(slab)
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
                if self.kind != REGULAR and slab.mapping.level == PLAIN:
                    for i in range(c.nplain):
                        n += c.free_slots[i].slab == slab
                    c.nplain -= n
                    n = 0
                for i in range(c.nfree):
                    if c.free_slots[i].slab != slab:
                        c.free_slots[n] = c.free_slots[i]
                        n += 1
                c.nfree = n
                c.room -= slab.nslots
                c.low -= slab.nslots
                c.count[<int>IDLE][0] = c.nfree
                c.count[<int>HELD_BYTES][0] -= self.charge(slab)
                self.held -= self.charge(slab)
                unmap_memory(&slab.mapping)
            slab = slab.next
        for i in range(self.nclasses):
            self.classes[i].low = self.classes[i].nfree
        return before - self.held

    cdef list reclaim(self, uint64_t scope, bint everything):
        """Take back all that a scope, or anyone, holds; gives (kind, bytes, viewed, place)."""
        cdef Slab* slab = self.slabs
        cdef Slot* slot
        cdef Py_ssize_t i, nbytes
        cdef bint viewed
        cdef str place
        found = []
        while slab != NULL:
            for i in range(slab.nslots):
                slot = &slab.slots[i]
                if slot.lease and (everything or slot.scope == scope):
                    nbytes, viewed, place = slot.nbytes, slot.exports > 0, self.place(slot)
                    self.count_reclaim(slot)
                    self.take_back(slot)
                    # last: a new tuple may start the garbage collector, and that finalizers
                    # that use this very pool
                    found.append((self.name, nbytes, viewed, place))
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
        cdef Py_ssize_t there = 0
        while slab != NULL:
            if slab.size_class == c and slab.keep == WARM and slab.mapping.memory != NULL:
                there += slab.nslots
            slab = slab.next
        if there < nslots and nslots - there > self.fitting(c.size):
            raise LimitExceeded(f"{self.name} pool: {nslots} buffers of {c.size} bytes to be warmed "
                                f"while {self.most - self.room()} of at most {self.most} "
                                "(bufpool_max_bytes) are held")
        # one slab, but where the limit on locked memory is near: then a locked and another one
        while there < nslots and now() < deadline:
            slab = self.add_slab(c, self.lockable(c, nslots - there), c.size, WARM)
            there += self.touch_slab(slab, deadline)
        return min(there, nslots)

    cdef Py_ssize_t touch_slab(self, Slab* slab, double deadline) noexcept:
        """Make a slab's pages present, until the deadline; gives how many slots lie in them."""
        cdef Py_ssize_t at = 0, step
        while at < <Py_ssize_t>slab.mapping.nbytes and now() < deadline:
            step = min(TOUCH_BYTES, <Py_ssize_t>slab.mapping.nbytes - at)
            touch(slab.mapping.memory + at, step)
            at += step
        return min(slab.nslots, at // self.stride(slab.size_class.size))

    cdef int bind(self, object block, tuple offsets) except -1:
        """Move the counters into `block`, one float64 at each offset; values are carried over."""
        cdef Py_buffer view
        cdef Py_ssize_t i, at, n = self.nclasses * <int>NFIELDS
        cdef double* new
        if len(offsets) != n:
            raise ValueError(f"{self.name} pool: {len(offsets)} counter offsets, {n} are needed")
        PyObject_GetBuffer(block, &view, PyBUF_WRITABLE)
        try:
            if <size_t>view.buf % 8:
                raise ValueError(f"{self.name} pool: the counter block does not begin at a "
                                 "multiple of 8 in memory")
            if len(set(offsets)) != n:
                raise ValueError(f"{self.name} pool: two counters at one offset")
            for at in offsets:
                if at < 0 or at % 8 or at > view.len - 8:
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
        cdef Py_buffer before = self.shared
        cdef bint was_shared = self.is_shared
        self.shared = view
        self.is_shared = True
        if was_shared:
            PyBuffer_Release(&before)      # last: it may run the exporter's Python code
        return 0
