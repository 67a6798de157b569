# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
# cython: embedsignature=True, embedsignature.format=clinic
"""Tells plain data, in which a walk has nothing to look at, as fast as it can be seen."""

from cpython.bool cimport PyBool_Check
from cpython.bytes cimport PyBytes_CheckExact
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact

cdef enum:
    DEEPEST = 100            # deeper data, and data in circles, is left to the walk
    MOST_ITEMS = 4_000_000   # so is data that is shared so often that it looks this large


cdef inline bint is_leaf(object value) noexcept:
    return (PyUnicode_CheckExact(value) or PyLong_CheckExact(value) or PyFloat_CheckExact(value)
            or value is None or PyBool_Check(value) or PyBytes_CheckExact(value))


cdef class _Scan:
    cdef object is_plain
    cdef dict known          # of types that are none of Python's own: True for plain ones
    cdef long room

    cdef bint finds(self, object value, int depth) except -1:
        """Look into what is no leaf."""
        kind = type(value)
        if kind is list:
            if self.is_beyond(len(<list>value), depth):
                return True
            for item in <list>value:
                if not is_leaf(item) and self.finds(item, depth + 1):
                    return True
            return False
        if kind is dict:
            if "args" in <dict>value or "kwargs" in <dict>value:
                return True
            if self.is_beyond(len(<dict>value), depth):
                return True
            for item in (<dict>value).values():
                if not is_leaf(item) and self.finds(item, depth + 1):
                    return True
            return False
        if kind is tuple:
            if self.is_beyond(len(<tuple>value), depth):
                return True
            for item in <tuple>value:
                if not is_leaf(item) and self.finds(item, depth + 1):
                    return True
            return False
        plain = self.known.get(kind)
        if plain is None:
            plain = self.known[kind] = self.is_plain(value)
        return not plain

    cdef bint is_beyond(self, Py_ssize_t items, int depth) noexcept:
        self.room -= items + 1
        return depth >= DEEPEST or self.room < 0


def may_hold_calls(value, is_plain):
    """Return False if there is no mapping with `args` or `kwargs` in a value, and nothing unknown.

    `is_plain` is asked of the first object of each type that is none of Python's own: whether
    objects of this type hold nothing.
    """
    cdef _Scan scan = _Scan.__new__(_Scan)
    scan.is_plain, scan.known, scan.room = is_plain, {}, MOST_ITEMS
    return not is_leaf(value) and scan.finds(value, 0)
