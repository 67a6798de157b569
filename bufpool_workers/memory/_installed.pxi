# Included by _core.pyx: this process's pools, for those who ask for a buffer and name no pool.

cdef BufferPool regular_pool, secure_pool, random_pool
cdef object installed = None
cdef object make_pools = None
cdef object escape_hook = None


def on_escape(hook):
    """Have `hook(kind, place)` called for each escape of a buffer acquired at a known place."""
    global escape_hook
    escape_hook = hook


def note_escape(str kind not None, str place):
    """Tell the hook of `on_escape`, if there is one and the place is known."""
    if place is not None and escape_hook is not None:
        escape_hook(kind, place)


def on_first_use(factory):
    """Have `factory` called when a buffer is asked for and no pools are installed."""
    global make_pools
    make_pools = factory


def install(pools not None):
    """Make these the pools of `buffer` and its siblings unless others are there; gives those."""
    global installed, regular_pool, secure_pool, random_pool
    if installed is None:
        regular_pool, secure_pool, random_pool = pools.regular, pools.secure, pools.random
        installed = pools
    return installed


def uninstall():
    """Forget the installed pools; buffers that are out stay valid."""
    global installed, regular_pool, secure_pool, random_pool
    installed = regular_pool = secure_pool = random_pool = None


def installed_pools():
    """The pools that `install` put in place, or None."""
    return installed


def buffer(nbytes):
    """Lend a buffer of exactly `nbytes` (an int, or text like "64KiB") from this process's pools.

    Its contents are undefined, as those of any reused memory. Raises TypeError or ValueError for
    what is no size, LimitExceeded beyond `bufpool_max_buffer_bytes`, MemoryError when the system
    has no memory. Costs tens of nanoseconds when the pool has one idle, and page faults when not.
    """
    cdef BufferPool pool = regular_pool     # held: what runs meanwhile may uninstall it
    if pool is None:
        pool = make_pools().regular
    return pool.lend(nbytes)


def secure_buffer(nbytes):
    """As `buffer`, from the secure pool: zeroed when taken and again when given back."""
    cdef BufferPool pool = secure_pool     # held: what runs meanwhile may uninstall it
    if pool is None:
        pool = make_pools().secure
    return pool.lend(nbytes)


def random_buffer(nbytes):
    """As `buffer`, from the random pool: random bytes, overwritten with others when given back."""
    cdef BufferPool pool = random_pool     # held: what runs meanwhile may uninstall it
    if pool is None:
        pool = make_pools().random
    return pool.lend(nbytes)
