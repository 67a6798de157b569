# Included by _core.pyx: how the process's owner learns of misused buffers.

cdef extern from "Python.h":
    ctypedef struct PyFrameObject:
        pass
    PyFrameObject* PyEval_GetFrame()
    int Py_AddPendingCall(int (*call)(void*) except -1, void* argument) noexcept

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


cdef object tell_owner(str field, str kind, Py_ssize_t nbytes, Py_ssize_t number, str task,
                       str place, str line):
    if owner is not None:
        owner.note_misuse(field, kind, nbytes, number, task, place, line)
    else:       # pools that were made by hand, in a program that uses nothing else
        logger.warning("bufpool: %s: %s pool: %d, at %s, of %d bytes", field, kind, number, line,
                       nbytes)


cdef str task_of(job):
    return getattr(job, "name", None)


cdef tuple line_of(blame):
    """Return a file and a line of it: where a function begins, or what runs now; None for neither.

    Their text is made by `text_of`: that may run signal handlers, as str() does.
    """
    cdef PyFrameObject* frame
    if blame is not None:
        return blame.co_filename, blame.co_firstlineno
    frame = PyEval_GetFrame()
    if frame == NULL:
        return None
    return (<object>frame).f_code.co_filename, (<object>frame).f_lineno


cdef str text_of(tuple line):
    return "?" if line is None else "%s:%s" % line


cdef int note_later(str field, Arena arena, Py_ssize_t nbytes, Py_ssize_t number, str task,
                    str place, blame) except -1:
    """Note a misuse without running Python code, for `tell_noted`.

    What a signal handler raises in a deallocator is lost, so the owner is told from the
    interpreter's loop, where it is an exception as any other.
    """
    global noted_in, telling_is_due
    if is_finalizing():                 # nothing can be imported or logged any more
        return 0
    if noted_in != generation:          # else what the parent noted would be told twice
        noted.clear()
        noted_in, telling_is_due = generation, False
    if len(noted) < MOST_NOTED:
        noted.append((field, arena.name, nbytes, number, task, place,
                      None if place else line_of(blame)))
    if not telling_is_due and Py_AddPendingCall(&tell_all_noted, NULL) == 0:
        telling_is_due = True
    return 0


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
    while noted and noted_in == generation:
        field, kind, nbytes, number, task, place, line = noted.pop(0)
        tell_owner(field, kind, nbytes, number, task, place, place or text_of(line))
    return 0
