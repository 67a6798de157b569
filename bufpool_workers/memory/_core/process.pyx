# Included by _core.pyx: this process's default pools, and the hooks of those that set them up.

cdef BufferPool regular_pool, secure_pool, random_pool
cdef object installed = None
cdef object make_pools = None
cdef object escape_hook = None


def on_escape(hook, /):
    """Call `hook(kind, place)` at each escape of a buffer acquired at a known place."""
    global escape_hook
    escape_hook = hook


def note_escape(str kind not None, str place):
    """Call the hook of `on_escape`, if there is one and the place is known."""
    if place is not None and escape_hook is not None:
        escape_hook(kind, place)


def on_first_use(factory, /):
    """Call `factory` when a buffer is asked for and no pools are installed."""
    global make_pools
    make_pools = factory


def install(pools not None, /):
    """Make these the default pools unless there are some; return the default pools."""
    global installed, regular_pool, secure_pool, random_pool
    if installed is None:
        regular_pool, secure_pool, random_pool = pools.regular, pools.secure, pools.random
        installed = pools
    return installed


def uninstall():
    """Forget the default pools; buffers that are out stay valid."""
    global installed, regular_pool, secure_pool, random_pool
    installed = regular_pool = secure_pool = random_pool = None


def installed_pools():
    """Return the pools that `install` made the default ones, or None."""
    return installed


def buffer(nbytes):
    """Return a buffer of exactly `nbytes` (an int, or text like "64KiB") from the regular pool.

    Its contents are undefined, as in any reused memory. Raises TypeError or ValueError for an
    invalid size, LimitExceeded above `bufpool_max_buffer_bytes`, MemoryError if the system has no
    memory. Costs tens of nanoseconds if the pool has an idle buffer, and page faults if not.
    """
    cdef BufferPool pool = regular_pool     # a reference: code that runs meanwhile may uninstall it
    if pool is None:
        pool = make_pools().regular
    return pool.checkout(nbytes)


def secure_buffer(nbytes):
    """Return a buffer of zeros, as `buffer` does, from the secure pool: zeroed on release too."""
    cdef BufferPool pool = secure_pool     # a reference: code that runs meanwhile may uninstall it
    if pool is None:
        pool = make_pools().secure
    return pool.checkout(nbytes)


def random_buffer(nbytes):
    """Return a buffer of random bytes, as `buffer` does; others overwrite them on release."""
    cdef BufferPool pool = random_pool     # a reference: code that runs meanwhile may uninstall it
    if pool is None:
        pool = make_pools().random
    return pool.checkout(nbytes)


# The interpreter calls a function of one argument without keywords in the quickest way. So these
# stay such ones, and a call with a keyword comes here.
cdef extern from "Python.h":
    ctypedef object (*vectorcallfunc)(object, PyObject**, size_t, PyObject*)
    ctypedef struct PyCFunctionObject:
        vectorcallfunc vectorcall
    Py_ssize_t PyVectorcall_NARGS(size_t)

cdef vectorcallfunc call_positional = (<PyCFunctionObject*>buffer).vectorcall


cdef object call(object function, PyObject** arguments, size_t n, PyObject* keywords):
    if keywords != NULL and <tuple>keywords == ("nbytes",) and PyVectorcall_NARGS(n) == 0:
        return call_positional(function, arguments, 1, NULL)
    return call_positional(function, arguments, n, keywords)

for function in (buffer, secure_buffer, random_buffer):
    (<PyCFunctionObject*>function).vectorcall = call
del function
