# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
# cython: embedsignature=True, embedsignature.format=clinic
"""Reads the values of a file whose keys are known, compares those where they lie, and adds up."""

import array

from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    VALUE_BYTES = 16  # a float64, and a float64 that says when it was set

cdef double LIMIT = 2.0 ** 53  # below it a sum of whole numbers is exact; at it one may be lost
cdef array.array FLOATS = array.array("d")


def read_values(bytes data not None, Py_ssize_t start, bytes image not None,
                bytes places not None, *, bint timed, bint counts):
    """Return the values at these places of the data; None where bytes between them are others.

    `image` is a file's content, `places` are native int32 offsets in it, in their order. `timed`:
    each value is followed by its time. `counts`: None too if one is negative or not finite.
    """
    cdef const char *read = PyBytes_AS_STRING(data) + start
    cdef const char *known = PyBytes_AS_STRING(image)
    cdef const int32_t *place = <const int32_t *>PyBytes_AS_STRING(places)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(image)
    cdef Py_ssize_t count = PyBytes_GET_SIZE(places) // sizeof(int32_t)
    cdef Py_ssize_t each = 2 if timed else 1
    cdef Py_ssize_t number, at = 0
    cdef double value
    cdef array.array found = array.clone(FLOATS, count * each, False)
    cdef double *target = found.data.as_doubles
    if start < 0 or start + size > PyBytes_GET_SIZE(data):
        return None
    for number in range(count):
        if place[number] < at or place[number] + VALUE_BYTES > size:
            raise ValueError("places out of order, or beyond the image")
        if memcmp(read + at, known + at, place[number] - at):
            return None
        memcpy(&value, read + place[number], sizeof(double))
        if counts and not 0 <= value < INFINITY:
            return None
        memcpy(target + number * each, read + place[number], each * sizeof(double))
        at = place[number] + VALUE_BYTES
    if memcmp(read + at, known + at, size - at):
        return None
    return found


def add_rows(list rows not None, otherwise not None):
    """Return the sum of each column of rows of float64, which are arrays of one length.

    Sums of whole numbers are exact. Any other one is what `otherwise` makes of its column.
    """
    cdef array.array row
    cdef Py_ssize_t width = len(rows[0]) if rows else 0
    cdef Py_ssize_t at
    cdef double value
    cdef array.array sums = array.clone(FLOATS, width, True)
    cdef double *total = sums.data.as_doubles
    for each in rows:
        row = <array.array?>each
        if row.ob_descr.typecode != c"d" or len(row) != width:
            raise ValueError("rows are not float64 of one length")
        for at in range(width):
            value = row.data.as_doubles[at]
            total[at] += value
            if not (is_whole(value) and is_whole(total[at])):
                total[at] = NAN  # which it stays
    return [
        total[at] if total[at] == total[at] else otherwise([each[at] for each in rows])
        for at in range(width)
    ]


cdef inline bint is_whole(double value) noexcept nogil:
    return -LIMIT < value < LIMIT and value == <double><int64_t>value
