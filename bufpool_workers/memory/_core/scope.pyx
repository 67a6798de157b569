# Included by _core.pyx: running tasks, and the buffers that they hold when they end.

cdef object scope_variable = ContextVar("bufpool_scope")
cdef uint64_t last_scope = 0
cdef bint scopes_used = False


@cython.final
cdef class Scope:
    """A running task: buffers that it acquires and still holds at its end are reclaimed."""

    cdef uint64_t number
    cdef readonly Scope outer
    cdef readonly str name

    def __cinit__(self, str name not None, Scope outer):
        global last_scope
        last_scope += 1
        self.number = last_scope
        self.name = name
        self.outer = outer


cdef inline uint64_t scope_number():
    """Return the number of the task that runs in this context, 0 for none."""
    if not scopes_used:
        return 0
    scope = get_value(scope_variable)
    return 0 if scope is None else (<Scope>scope).number


def enter_scope(str name, /):
    """Begin a task in this context; scopes nest, as eager tasks do."""
    global scopes_used
    scopes_used = True
    scope_variable.set(Scope(name, get_value(scope_variable)))


def outermost_scope():
    """Return the name of the first task of this context that was not ended, or None."""
    scope = get_value(scope_variable)
    if scope is None:
        return None
    while (<Scope>scope).outer is not None:
        scope = (<Scope>scope).outer
    return (<Scope>scope).name


def end_scope(str name not None, *pools):
    """End the innermost task of that name and take back what it still holds.

    Tasks inside it that were not ended end with it. One call does it all, so that no exception
    can come in between. Return (kind, bytes, viewed, place) of each buffer.
    """
    cdef Scope innermost = get_value(scope_variable)
    cdef Scope scope = innermost
    cdef BufferPool pool
    for pool in pools:
        if pool is None:
            raise TypeError("pool must not be None")
    while scope is not None and scope.name != name:
        scope = scope.outer
    if scope is None:
        return []
    cdef Scope last = scope.outer
    scope_variable.set(last)
    found = []
    while innermost is not last:
        for pool in pools:
            if pool.arena.generation == generation:
                found += pool.arena.reclaim(innermost.number, False)
        innermost = innermost.outer
    for pool in pools:
        if pool.arena.damaged_bytes >= 0:
            report_damage(pool.arena)
        if pool.arena.over_cap:
            pool.arena.report_cap()
    return found
