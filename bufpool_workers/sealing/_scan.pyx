# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
# cython: embedsignature=True, embedsignature.format=clinic
"""Tells plain data, in which a walk has nothing to look at, as fast as it can be seen."""

from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_TYPE
from cpython.tuple cimport PyTuple_GET_SIZE

cdef extern from "Python.h":
    PyTypeObject PyUnicode_Type, PyLong_Type, PyFloat_Type, PyBool_Type, PyBytes_Type
    PyTypeObject PyList_Type, PyDict_Type, PyTuple_Type
    PyObject *borrowed_from_list "PyList_GET_ITEM"(object, Py_ssize_t)
    PyObject *borrowed_from_tuple "PyTuple_GET_ITEM"(object, Py_ssize_t)
    PyTypeObject *type_of "Py_TYPE"(PyObject *)
    Py_ssize_t length_of "PyUnicode_GET_LENGTH"(PyObject *)
    Py_UCS4 character_of "PyUnicode_READ_CHAR"(PyObject *, Py_ssize_t)

cdef enum:
    DEEPEST = 100            # deeper data, and data in circles, is left to the walk
    MOST_ITEMS = 4_000_000   # so is data that is shared so often that it looks this large

cdef PyTypeObject *NONE = Py_TYPE(None)


cdef inline bint is_leaf(PyTypeObject *kind) noexcept:
    return (kind == &PyUnicode_Type or kind == &PyLong_Type or kind == &PyFloat_Type
            or kind == NONE or kind == &PyBool_Type or kind == &PyBytes_Type)


cdef inline bint looks_like_call(PyObject *key) noexcept:
    """Return False for nearly all strings that are neither `args` nor `kwargs`."""
    return ((length_of(key) == 4 and character_of(key, 0) == u"a")
            or (length_of(key) == 6 and character_of(key, 0) == u"k"))


cdef class _Scan:
    cdef object is_plain
    cdef dict known          # of types that are none of Python's own: True for plain ones
    cdef long room

    # The loops borrow references: to count one up and down costs more than all the rest of a leaf.
    # What runs Python code can change a container, so a size is asked for again after it.

    cdef bint finds(self, object value, int depth) except -1:
        """Look into what is no leaf."""
        cdef PyTypeObject *kind = Py_TYPE(value)
        cdef PyTypeObject *item_kind
        cdef PyTypeObject *leaf = NULL  # that of the item before, as most have
        cdef PyObject *item
        cdef Py_ssize_t place = 0
        if kind == &PyDict_Type:
            return self.finds_in_dict(value, depth)
        if kind == &PyList_Type:
            if self.is_beyond(PyList_GET_SIZE(value), depth):
                return True
            while place < PyList_GET_SIZE(value):
                item = borrowed_from_list(value, place)
                place += 1
                item_kind = type_of(item)
                if item_kind == leaf:
                    continue
                if is_leaf(item_kind):
                    leaf = item_kind
                elif self.finds(<object>item, depth + 1):
                    return True
            return False
        if kind == &PyTuple_Type:
            if self.is_beyond(PyTuple_GET_SIZE(value), depth):
                return True
            while place < PyTuple_GET_SIZE(value):
                item = borrowed_from_tuple(value, place)
                place += 1
                if not is_leaf(type_of(item)) and self.finds(<object>item, depth + 1):
                    return True
            return False
        plain = self.known.get(<object>kind)
        if plain is None:
            plain = self.known[<object>kind] = self.is_plain(value)
        return not plain

    cdef bint finds_in_dict(self, dict value, int depth) except -1:
        cdef PyTypeObject *key_kind
        cdef PyObject *key
        cdef PyObject *item
        cdef Py_ssize_t place = 0
        cdef bint looked_up = False
        if self.is_beyond(len(value), depth):
            return True
        while PyDict_Next(value, &place, &key, &item):
            key_kind = type_of(key)
            if key_kind == &PyUnicode_Type:
                if looks_like_call(key) and (<object>key == "args" or <object>key == "kwargs"):
                    return True
            elif not looked_up and not is_leaf(key_kind):
                # such a key may be equal to a string, which only a look-up finds out
                if "args" in value or "kwargs" in value:
                    return True
                looked_up, place = True, 0
                continue
            if not is_leaf(type_of(item)) and self.finds(<object>item, depth + 1):
                return True
        return False

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
    return not is_leaf(Py_TYPE(value)) and scan.finds(value, 0)
