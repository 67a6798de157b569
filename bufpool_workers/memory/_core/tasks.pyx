# Included by _core.pyx before arena.pyx: what the runs of each task are lent, where it is wanted.

cpdef enum TaskField:     # the order of a tally; `pool_stats.TASK_FIELDS` has the same names
    TASK_GETS, TASK_ESCAPES, TASK_RECLAIMS, TASK_PEAK_BYTES

cdef enum:
    NTASKFIELDS = TASK_PEAK_BYTES + 1
    MOST_REMEMBERED = 1000    # tallies by name, in each pool: a program may make up names

if (tallied := tuple([field.name.lower()[5:] for field in TaskField])) != TASK_FIELDS:
    raise ImportError(f"bufpool_workers.memory._core counts {tallied} of a task, but "
                      f"pool_stats.TASK_FIELDS is {TASK_FIELDS}")

cdef struct Tally:
    uint64_t generation       # of the process whose runs it counts; 0: nobody's any more
    Py_ssize_t held           # by runs of the task, in this process
    Py_ssize_t peak
    double* count[<int>NTASKFIELDS]
    double own[<int>NTASKFIELDS]


@cython.final
cdef class TaskTally:
    """The counters of one task in this process, in memory of its own until `bind`.

    Buffers that are out point to the struct, so that it is never freed; there are some hundred of
    them in a process at most. Without this object it counts nowhere.
    """

    cdef Tally* tally
    cdef Py_buffer counters, peak
    cdef bint is_bound

    def __cinit__(self):
        cdef Py_ssize_t i
        self.tally = <Tally*>calloc(1, sizeof(Tally))
        if self.tally == NULL:
            raise MemoryError
        self.tally.generation = generation
        for i in range(<int>NTASKFIELDS):
            self.tally.count[i] = &self.tally.own[i]

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.tally == NULL:
            return
        self.tally.generation = 0
        for i in range(<int>NTASKFIELDS):
            self.tally.count[i] = &self.tally.own[i]
        if self.is_bound:
            PyBuffer_Release(&self.counters)
            PyBuffer_Release(&self.peak)

    def bind(self, counters, offsets, peak, peak_offset):
        """Keep what only grows in one block and the peak in another; values are carried over."""
        cdef Py_buffer new_counters, new_peak
        cdef Py_ssize_t i
        offsets, peak_offset = tuple(map(operator.index, offsets)), operator.index(peak_offset)
        open_block(&new_counters, counters, offsets, <int>NTASKFIELDS - 1, "a task's tally")
        try:
            open_block(&new_peak, peak, (peak_offset,), 1, "a task's tally")
        except BaseException:
            PyBuffer_Release(&new_counters)
            raise
        for i in range(<int>NTASKFIELDS - 1):
            move_count(&self.tally.count[i], &new_counters, offsets[i])
        move_count(&self.tally.count[<int>TASK_PEAK_BYTES], &new_peak, peak_offset)
        cdef Py_buffer old_counters = self.counters, old_peak = self.peak
        cdef bint was_bound = self.is_bound
        self.counters, self.peak, self.is_bound = new_counters, new_peak, True
        if was_bound:      # last: it may run the exporters' Python code
            PyBuffer_Release(&old_counters)
            PyBuffer_Release(&old_peak)

    def counts(self):
        """Return its numbers in the order of TASK_FIELDS."""
        return tuple([self.tally.count[i][0] for i in range(<int>NTASKFIELDS)])


cdef inline void tally_taken(Tally* tally, Py_ssize_t nbytes) noexcept:
    tally.count[<int>TASK_GETS][0] += 1
    tally.held += nbytes
    if tally.held > tally.peak:
        tally.peak = tally.held
        tally.count[<int>TASK_PEAK_BYTES][0] = tally.held
