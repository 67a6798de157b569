# Included by _core.pyx: what the memory of a pool is cut into.

cdef enum SlabKind:
    ONE_SHOT      # one slot, mapped for one use
    ON_DEMAND     # mapped for a miss; trim() unmaps it
    PREWARMED     # mapped by warm(); stays

cdef struct Slot:
    char* memory
    uint64_t checkout_id   # 0: not checked out
    uint64_t scope         # the task that took it; 0: none
    Py_ssize_t exports     # live views
    Py_ssize_t nbytes      # what its buffer may see
    Py_ssize_t prefilled   # random kind: leading bytes that are new already
    bint retired           # something wrote past its end: not used again
    Tally* tally           # of the task whose run took it; NULL: no task's
    SizeClass* size_class
    Slab* slab

cdef struct Slab:
    Mapping mapping
    SizeClass* size_class
    Slot* slots
    Py_ssize_t nslots
    SlabKind kind
    Slab* next

cdef struct SizeClass:
    Py_ssize_t size        # the largest buffer of a slot
    Slot** free_slots      # a stack, with room for all slots of the class
    Py_ssize_t nfree
    Py_ssize_t nplain      # of these, at the bottom: secure ones that could not be locked
    Py_ssize_t nslots
    Py_ssize_t low_water   # the lowest nfree since the last trim
    double* count[<int>NFIELDS]

cdef Py_ssize_t UNBOUNDED = (<size_t>-1) >> 1


cdef inline bint is_idle(Slot* slot) noexcept nogil:
    return slot.checkout_id == 0 and slot.exports == 0


cdef inline bint all_idle_in(Slab* slab) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(slab.nslots):
        if not is_idle(&slab.slots[i]):
            return False
    return True
