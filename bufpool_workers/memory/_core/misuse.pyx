# Included by _core.pyx: how the process's owner and its warnings tell of misused buffers.
#
# Both are Python code, which drops what a signal handler raises in it: a deallocator prints it,
# `warnings` and `logging` catch any Exception that comes while they write. So deallocators only
# note what there is to tell, and signals wait while it is told.

cdef extern from "Python.h":
    ctypedef struct PyFrameObject:
        pass
    PyFrameObject* PyEval_GetFrame()
    int Py_AddPendingCall(int (*call)(void*) except -1, void* argument) noexcept
    int PyErr_WarnExplicitObject(object category, object message, object filename, int line,
                                 object module, object registry) except -1

if pthread_atfork(NULL, NULL, put_back_in_child):
    raise MemoryError

cdef Py_ssize_t MOST_NOTED = 1000
cdef list noted = []                # by deallocators and ends of jobs; see `note_later`
cdef uint64_t noted_in = 0          # the generation of the process that they were noted in
cdef bint telling_is_due = False


def note_misuse(str field not None, str kind not None, Py_ssize_t nbytes, *, str place=None,
                blame=None, str task=None, Py_ssize_t number=1):
    """Report to the owner `number` misuses of a pool's buffers, which the counter `field` counts.

    `nbytes` is the size of the last one; `place` is where it was acquired, if that is known. Else
    the function of code `blame` is named, or the caller. `task` is by default the running job's.
    """
    tell_owner(field, kind, nbytes, number, task or task_of(current_job()), place,
               place or text_of(line_of(blame)))


def tell_noted():
    """Report to the owner the misuses that were noted for it."""
    tell_all_noted(NULL)


@cython.final
cdef class _Telling:
    """A `with` in which signals wait, after those that are due; one may be in another.

    Those that end a program still come, as it may wait for ever for the reader of its log.
    """

    cdef bint is_held

    def __enter__(self):
        PyErr_CheckSignals()       # here too, for a handler may take its time
        self.is_held = hold_signals()
        try:
            PyErr_CheckSignals()
        except BaseException:
            release_signals(self.is_held)
            raise

    def __exit__(self, kind, error, trace, /):
        release_signals(self.is_held)


cdef int tell_owner(str field, str kind, Py_ssize_t nbytes, Py_ssize_t number, str task,
                    str place, str line) except -1:
    with _Telling():
        if owner is not None:
            owner.note_misuse(field, kind, nbytes, number, task, place, line)
        else:       # pools that were made by hand, in a program that uses nothing else
            logger.warning("bufpool: %s: %s pool: %d, at %s, of %d bytes", field, kind, number,
                           line, nbytes)
    return 0


cdef int warn(str message, blame, Py_ssize_t level=1) except -1:
    """Emit a ResourceWarning at the caller's line, or at the function with the code `blame`."""
    with _Telling():
        if blame is None:
            PyErr_WarnEx(ResourceWarning, message.encode("utf-8", "backslashreplace"), level)
        else:
            warnings.warn_explicit(message, ResourceWarning, blame.co_filename,
                                   blame.co_firstlineno)
    return 0


def warn_reclaimed(str message not None, blame):
    """Emit a ResourceWarning at the line that called the caller, or at the function of `blame`."""
    warn(message, blame, 2)


cdef str acquired_at(str place):
    return "" if place is None else f", acquired at {place}"


cdef str text_of_drop(str kind, Py_ssize_t nbytes, str place):
    return (f"{kind} pool: a buffer of {nbytes} bytes was dropped without release"
            f"{acquired_at(place)}")


cdef int warn_dropped(str message, tuple line) except -1:
    """Emit a ResourceWarning as of the line that dropped a buffer.

    Where warnings are errors it goes to sys.unraisablehook, as a deallocator's: no code awaits it.
    """
    file, number, names = line or ("sys", 1, {"__name__": "sys"})
    message = message.encode("utf-8", "backslashreplace").decode()
    with _Telling():
        try:
            PyErr_WarnExplicitObject(ResourceWarning, message, file, number, names.get("__name__"),
                                     names.setdefault("__warningregistry__", {}))
        except Warning as error:
            raise_to_nobody(error)
    return 0


cdef void raise_to_nobody(error) noexcept:
    raise error


cdef str task_of(job):
    return getattr(job, "name", None)


cdef tuple line_of(blame):
    """Return a file, a line of it and its module's names; None if no code of Python's runs.

    It is where a function begins, or what runs now. Their text is made by `text_of`: that may run
    signal handlers, as str() does.
    """
    cdef PyFrameObject* frame
    if blame is not None:
        return blame.co_filename, blame.co_firstlineno, {}
    frame = PyEval_GetFrame()
    if frame == NULL:
        return None
    return ((<object>frame).f_code.co_filename, (<object>frame).f_lineno,
            (<object>frame).f_globals)


cdef str text_of(tuple line):
    return "?" if line is None else f"{line[0]}:{line[1]}"


cdef int note_later(str field, Arena arena, Py_ssize_t nbytes, Py_ssize_t number, str task,
                    str place, blame) except -1:
    """Note a misuse without running Python code, for `tell_noted`.

    What a signal handler raises in a deallocator is lost, so the owner is told from the
    interpreter's loop, where it is an exception as any other.
    """
    global noted_in, telling_is_due
    if is_finalizing():     # no handler runs and nothing can be imported or logged any more
        return warn(text_of_drop(arena.name, nbytes, place), None) if field == "reclaims" else 0
    if noted_in != generation:          # else what the parent noted would be told twice
        noted.clear()
        noted_in, telling_is_due = generation, False
    if len(noted) < MOST_NOTED:
        noted.append((field, arena.name, nbytes, number, task, place, line_of(blame)))
    see_to_telling()
    return 0


cdef void see_to_telling() noexcept:
    global telling_is_due
    if not telling_is_due and Py_AddPendingCall(&tell_all_noted, NULL) == 0:
        telling_is_due = True


cdef inline bint has_found(Arena arena) noexcept:
    return (arena.damaged_bytes >= 0 or arena.unlocked > 0) and arena.generation == generation


cdef int note_found(Arena arena, str task, blame) except -1:
    """Note what `make_ready` and `overwrite` found, which run no Python code either."""
    if arena.damaged_bytes >= 0:
        note_later("damages", arena, arena.damaged_bytes, 1, task, None, blame)
        arena.damaged_bytes = -1
    if arena.unlocked:
        note_later("unlocked", arena, arena.unlocked_bytes, arena.unlocked, task, None, blame)
        arena.unlocked = 0
    return 0


cdef int tell_all_noted(void* unused) except -1:
    global telling_is_due
    telling_is_due = False
    if not noted or noted_in != generation:     # as after nearly every job: signals go on
        return 0
    try:
        with _Telling():
            for _ in range(len(noted)):       # what is told may drop more, without an end
                if not noted or noted_in != generation:
                    break
                field, kind, nbytes, number, task, place, line = noted.pop(0)
                tell_owner(field, kind, nbytes, number, task, place, place or text_of(line))
                if field == "reclaims":       # those of a job's end are told of at once
                    warn_dropped(text_of_drop(kind, nbytes, place), line)
    finally:
        if noted and noted_in == generation:
            see_to_telling()
    return 0
