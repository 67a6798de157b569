# Included by _core.pyx: running jobs, and the buffers that they hold when they end.

cdef object scope_variable = ContextVar("bufpool_scope")
cdef uint64_t last_scope = 0
cdef bint scopes_used = False


@cython.final
cdef class Scope:
    """A running job: buffers that it acquires and still holds at its end are reclaimed."""

    cdef uint64_t number
    cdef readonly Scope outer
    cdef readonly str name
    cdef readonly object job
    cdef bint ended        # contexts that were copied from its own may still have it
    cdef Tally* tally      # of its task, from the first lending on where tasks are counted

    def __cinit__(self, str name not None, Scope outer, job):
        global last_scope
        last_scope += 1
        self.number = last_scope
        self.name = name
        self.outer = outer
        self.job = job


cdef inline uint64_t scope_number():
    """Return the number of the job that runs in this context, 0 for none."""
    if not scopes_used:
        return 0
    scope = get_value(scope_variable)
    return 0 if scope is None or (<Scope>scope).ended else (<Scope>scope).number


cdef inline object running_scope():
    """Return the Scope of the job that runs in this context, or None."""
    if not scopes_used:
        return None
    scope = get_value(scope_variable)
    return None if scope is None or (<Scope>scope).ended else scope


def enter_scope(str name, job=None):
    """Begin a job in this context; scopes nest, as eager tasks do."""
    global scopes_used
    scopes_used = True
    scope_variable.set(Scope(name, get_value(scope_variable), job))


def current_job():
    """Return the job at work in this context; None for none, and for one that has ended."""
    scope = get_value(scope_variable)
    return None if scope is None or (<Scope>scope).ended else (<Scope>scope).job


def outermost_scope():
    """Return (name, job) of the first job of this context that was not ended, or None."""
    scope = get_value(scope_variable)
    if scope is None:
        return None
    while (<Scope>scope).outer is not None:
        scope = (<Scope>scope).outer
    return (<Scope>scope).name, (<Scope>scope).job


def end_scope(str name not None, *pools):
    """End the innermost job of that name and take back what it still holds.

    Jobs inside it that were not ended end with it. One call does it all, so that no exception
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
    job = innermost.job
    found = []
    while innermost is not last:
        innermost.ended = True
        for pool in pools:
            if pool.arena.generation == generation:
                found += pool.arena.reclaim(innermost.number, False)
        innermost = innermost.outer
    for pool in pools:
        if has_found(pool.arena):
            note_found(pool.arena, task_of(job),
                       getattr(getattr(job, "function", None), "__code__", None))
        if pool.arena.over_cap:
            pool.arena.report_cap()
    return found
