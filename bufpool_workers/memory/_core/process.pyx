# Included by _core.pyx: this process's default pools, which their owner makes.

cdef BufferPool regular_pool, secure_pool, random_pool
cdef object installed = None
cdef object owner = None


def set_owner(runtime, /):
    """Set the `runtime` that makes the default pools (`pools`) and logs misuse (`note_misuse`)."""
    global owner
    owner = runtime


cdef object pools_of_owner():
    if owner is None:
        _loading.load("bufpool_workers.runtime")      # it sets the owner
    return owner.pools


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
        pool = pools_of_owner().regular
    return pool.checkout(nbytes)


def secure_buffer(nbytes):
    """Return a buffer of `nbytes` zeros from the secure pool, which zeroes it on release.

    Its memory is that of memfd_secret(2), else of mlock(2), else ordinary memory, as the system and
    `bufpool_secure_level` allow. Raises what `buffer` raises, and SecureLevelUnmet.
    """
    cdef BufferPool pool = secure_pool     # a reference: code that runs meanwhile may uninstall it
    if pool is None:
        pool = pools_of_owner().secure
    return pool.checkout(nbytes)


def random_buffer(nbytes):
    """Return a buffer of `nbytes` random bytes, which the pool overwrites on release.

    They are AES-256 in counter mode with fast key erasure, seeded by getrandom(2). The memory is as
    that of `secure_buffer`, and so are the errors.
    """
    cdef BufferPool pool = random_pool     # a reference: code that runs meanwhile may uninstall it
    if pool is None:
        pool = pools_of_owner().random
    return pool.checkout(nbytes)


# The interpreter has its quickest call for functions of one argument that take no keywords. These
# stay such functions, and only calls in other ways, as with a keyword, come through here.
cdef extern from "Python.h":
    ctypedef object (*vectorcallfunc)(object, PyObject* const*, size_t, PyObject*)
    ctypedef struct PyCFunctionObject:
        vectorcallfunc vectorcall
    Py_ssize_t PyVectorcall_NARGS(size_t)

cdef vectorcallfunc call_positional = (<PyCFunctionObject*>buffer).vectorcall


cdef object call(object function, PyObject* const* arguments, size_t n, PyObject* keywords):
    if keywords != NULL and <tuple>keywords == ("nbytes",) and PyVectorcall_NARGS(n) == 0:
        return call_positional(function, arguments, 1, NULL)
    return call_positional(function, arguments, n, keywords)

for function in (buffer, secure_buffer, random_buffer):
    (<PyCFunctionObject*>function).vectorcall = call
del function
