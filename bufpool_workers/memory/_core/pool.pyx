# Included by _core.pyx: what users call, and the pool's memory in this process.

cdef Arena NO_ARENA = Arena("", REGULAR, (), 0, True, PLAIN, False)
NO_ARENA.generation = NO_ARENA.open_generation = 0


@cython.final
@cython.no_gc_clear     # finalizers in the same cycle may use it
cdef class BufferPool:
    """BufferPool(kind, *, size_classes, max_bytes, max_buffer_bytes, warm=None, \
lend_at_limit=True, secure_level="any", prepare=None, locate=None, tally=None)\n--\n
    A pool of one kind ("regular", "secure" or "random"), its bounds, and its memory.

    One pool serves all threads of its process; after a fork the child's begins empty. `prepare` is
    called with the pool before its first use in a process; `locate` returns the place that a buffer
    is acquired at, `tally` the TaskTally that counts for a task, by its name. Raises ValueError for
    an unknown kind and for size classes that don't increase.
    """

    cdef Arena arena
    cdef Kind which
    cdef bint closed, lend_at_limit
    cdef Level min_level
    cdef object prepare, locate, tally
    cdef str _kind
    cdef tuple _size_classes
    cdef tuple _labels
    cdef Py_ssize_t _max_bytes
    cdef Py_ssize_t _max_buffer_bytes
    cdef dict _warm_levels             # size class: count

    def __cinit__(self, str kind, *, tuple size_classes not None, Py_ssize_t max_bytes,
                  Py_ssize_t max_buffer_bytes, dict warm=None, bint lend_at_limit=True,
                  str secure_level="any", prepare=None, locate=None, tally=None):
        kinds = {"regular": REGULAR, "secure": SECURE, "random": RANDOM}
        if kind not in kinds:
            raise ValueError(f"kind of a pool must be one of {', '.join(kinds)}, got {kind!r}")
        bounds = (0, *size_classes, UNBOUNDED // 2)
        if not all([a < b for a, b in zip(bounds, bounds[1:])]):
            raise ValueError(f"{kind} pool: size classes must be above 0 and increase")
        self._kind = kind
        self.which = kinds[kind]
        self.min_level = <Level><int>{"any": PLAIN, "mlock": MLOCK, "memfd": MEMFD}[secure_level]
        if self.which == REGULAR:
            self.min_level = PLAIN
        self._size_classes = size_classes
        self._labels = (*map(size_label, size_classes), "larger")
        self._max_bytes, self._max_buffer_bytes = max_bytes, max_buffer_bytes
        self._warm_levels = warm or {}
        self.lend_at_limit, self.prepare = lend_at_limit, prepare
        self.locate, self.tally = locate, tally
        self.arena = NO_ARENA

    cdef Arena current_arena(self):
        """Return the arena of this process, made at the first use and again after a fork."""
        if self.closed:
            raise PoolClosed(f"{self._kind} pool: closed")
        if self.arena.generation != generation:
            self.arena = Arena(self._kind, self.which, self._size_classes, self._max_bytes,
                               self.lend_at_limit, self.min_level, self.locate is not None,
                               self.tally is not None)
            if self.prepare is not None:
                try:
                    self.prepare(self)
                except BaseException:
                    self.arena = NO_ARENA      # the next use prepares again
                    raise
        return self.arena

    cdef Py_ssize_t size_asked(self, nbytes) except -1:
        if isinstance(nbytes, str):
            nbytes = self.size_in(nbytes)
        elif isinstance(nbytes, bool):
            raise TypeError(f"{self._kind} pool: size must be an int, not bool")
        nbytes = operator.index(nbytes)
        if nbytes < 0:
            raise ValueError(f"{self._kind} pool: size must not be negative, got {nbytes}")
        if nbytes > self._max_buffer_bytes:
            raise LimitExceeded(f"{self._kind} pool: {nbytes} bytes asked, the most for one buffer "
                                f"is {self._max_buffer_bytes} (bufpool_max_buffer_bytes)")
        return nbytes

    cdef object size_in(self, str text):
        try:
            return parse_size(text)
        except ValueError:
            if self.which == REGULAR:
                raise
        # the argument may be the secret itself: no exception quotes it or has it in its context
        raise ValueError(f'{self._kind} pool: size must be an int or text such as "64KiB"')

    cdef inline Buffer checkout(self, object nbytes):
        cdef Py_ssize_t n = PyLong_AsSsize_t(nbytes) if PyLong_CheckExact(nbytes) else -1
        if not 0 <= n <= self._max_buffer_bytes:
            PyErr_Clear()
            n = self.size_asked(nbytes)
        if self.which == RANDOM:
            ensure_keystream(n, self.min_level)
        cdef Arena arena = self.arena
        if arena.open_generation != generation:
            arena = self.current_arena()
        if self.locate is not None:
            return self.checkout_at(arena, n)
        return self.checkout_from(arena, n)

    cdef inline Buffer checkout_from(self, Arena arena, Py_ssize_t n):
        cdef uint64_t scope
        cdef Tally* tally = NULL
        if self.tally is None:
            scope = scope_number()
        else:
            scope = self.tallied_scope(arena, &tally)
        cdef Buffer buffer = Buffer.__new__(Buffer)
        buffer.slot = arena.take_slot(n, scope)
        buffer.checkout_id = buffer.slot.checkout_id
        buffer.arena = arena
        if self.which == RANDOM and is_large(n):
            fill_large(buffer)
        # a large random one runs code of Python's, which may end the job
        if tally != NULL and buffer.slot.checkout_id == buffer.checkout_id:
            tally_taken(tally, n)
            buffer.slot.tally = tally
        return buffer

    cdef Buffer checkout_at(self, Arena arena, Py_ssize_t n):
        """Check a buffer out, and note where."""
        cdef str place = self.locate()
        cdef Buffer buffer = self.checkout_from(arena, n)
        arena.places[<size_t>buffer.slot] = place
        return buffer

    cdef inline uint64_t tallied_scope(self, Arena arena, Tally** tally) except? 0:
        """Return what `scope_number` does, and the tally of the job's task, if it has one."""
        scope = running_scope()
        if scope is None:
            return 0
        tally[0] = (<Scope>scope).tally
        if tally[0] == NULL or tally[0].generation != generation:
            tally[0] = (<Scope>scope).tally = self.find_tally(arena, <Scope>scope)
        return (<Scope>scope).number

    cdef Tally* find_tally(self, Arena arena, Scope scope) except? NULL:
        """Return the tally of a job's task; NULL for a job without a name."""
        cdef str name = task_of(scope.job)
        if name is None:
            return NULL
        found = arena.tallies.get(name)
        if found is None:
            found = self.tally(name)
            if len(arena.tallies) < <int>MOST_REMEMBERED:
                arena.tallies[name] = found
        return (<TaskTally?>found).tally

    @property
    def kind(self):
        """The kind of its buffers: "regular", "secure" or "random"."""
        return self._kind

    @property
    def size_classes(self):
        """The sizes that it keeps, in bytes; a request gets the smallest that fits."""
        return self._size_classes

    @property
    def labels(self):
        """The labels of the size classes in metrics, such as "64kb"; the last is "larger"."""
        return self._labels

    @property
    def max_bytes(self):
        """The most that it holds in a process, idle and in use, in bytes."""
        return self._max_bytes

    @property
    def max_buffer_bytes(self):
        """The largest size that may be asked for, in bytes."""
        return self._max_buffer_bytes

    @property
    def warm_levels(self):
        """The number of buffers that `warm` maps, by size class in bytes."""
        return self._warm_levels

    def acquire(self, nbytes, /):
        """Return a buffer of exactly `nbytes` (an int, or text like "64KiB").

        Raises what `bufpool_workers.buffer` raises, and PoolClosed after `close`.
        """
        return self.checkout(nbytes)

    def stats(self):
        """Return this process's numbers, also by size class."""
        return PoolStats.of_classes(self._labels, self.counters())

    def warm(self, *, double seconds=2.0):
        """Map and touch the buffers of `warm_levels`, within `seconds`.

        Buffers that are not reached are mapped later, when they are asked for. Warming again maps
        only what is missing. Raises LimitExceeded if they don't fit under the cap.
        """
        cdef Arena arena = self.current_arena()
        cdef double deadline = now() + seconds
        if self.which == RANDOM and self._warm_levels:
            ensure_keystream(1, self.min_level)
        buffers = nbytes = 0
        complete = True
        for size, count in self._warm_levels.items():
            done = prewarm(arena, &arena.classes[self._size_classes.index(size)], count, deadline)
            buffers += done
            nbytes += done * size
            complete = complete and done == count
        return WarmupResult(buffers, nbytes, complete)

    def trim(self, *, bint all_idle=True):
        """Return idle memory above the warm level to the system; return its bytes.

        Without `all_idle`, only memory that was not needed since the last call.
        """
        return shrink(self.current_arena(), ON_DEMAND, all_idle)

    def bind_counters(self, block, offsets):
        """Keep the counters in `block`, an object with a writable buffer, from now on.

        `offsets` are in bytes, one for each label and, within it, each of FIELDS. The block is
        held (it can't be closed or resized) until the pool is bound to another one.
        """
        # ints from here on: those that run Python code could give another value the next time
        offsets = tuple(map(operator.index, offsets))
        bind_counters(self.current_arena(), block, offsets)

    def counters(self):
        """Return a tuple of floats in the order of FIELDS for each label, all of one moment."""
        cdef Arena arena = self.arena if self.closed else self.current_arena()
        return [tuple([arena.classes[i].count[j][0] for j in range(<int>NFIELDS)])
                for i in range(arena.nclasses)]

    def close(self):
        """Close the pool. Regular buffers that are out stay valid until they are released.

        Secure and random ones are taken back and overwritten, as at the end of a task.
        """
        if not self.closed:
            self.current_arena().open_generation = 0
            self.closed = True
            if self.which != REGULAR:
                self.arena.reclaim(0, True)
            shrink(self.arena, PREWARMED, True)
            note_found(self.arena, None, None)
            tell_noted()

    def __repr__(self):
        # without current_arena(), which would make one
        if self.closed:
            return f"<bufpool_workers.BufferPool, {self._kind}, closed>"
        if self.arena.generation != generation:
            return f"<bufpool_workers.BufferPool, {self._kind}, unused>"
        stats = self.stats()
        return (f"<bufpool_workers.BufferPool, {self._kind}, {stats.in_use} in use, "
                f"{stats.idle} idle, {stats.held_bytes} of {self._max_bytes} bytes>")

(<PyTypeObject*>BufferPool).tp_name = "bufpool_workers.BufferPool"    # as Buffer's
