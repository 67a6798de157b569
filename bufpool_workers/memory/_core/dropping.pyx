# Included by _core.pyx: what happens when a handle is dropped.

@cython.final
@cython.no_gc
cdef class DropReport:
    """Notes a dropped buffer when it is deallocated, which keeps the current exception apart."""

    cdef Arena arena
    cdef Slot* slot

    def __dealloc__(self):
        task = task_of(current_job())
        note_later("reclaims", self.arena, self.slot.nbytes, 1, task, self.arena.place(self.slot),
                   None)
        note_found(self.arena, task, None)


cdef void drop(Arena arena, Slot* slot) noexcept:
    """Take back a buffer that was not released, and report it."""
    arena.count_reclaim(slot)
    arena.return_slot(slot)
    cdef DropReport report = DropReport.__new__(DropReport)
    report.arena, report.slot = arena, slot


# Not Cython's `__dealloc__`, which keeps the current exception apart each time: that is a seventh
# of the cost of a buffer, and only dropped ones need it.
cdef destructor free_handle = (<PyTypeObject*>Buffer).tp_dealloc


cdef void dealloc(PyObject* handle) noexcept:
    # no variable of type Buffer: counting references would free the handle once more
    cdef Slot* slot = (<Buffer>handle).slot
    if (slot.checkout_id == (<Buffer>handle).checkout_id
            and (<Buffer>handle).arena.generation == generation):
        drop((<Buffer>handle).arena, slot)
    free_handle(handle)

(<PyTypeObject*>Buffer).tp_dealloc = dealloc
