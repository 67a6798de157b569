# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
# cython: embedsignature=True, embedsignature.format=clinic
"""Reads the values of a file whose keys are known, and compares those where they lie."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport INFINITY
from libc.stdint cimport int32_t
from libc.string cimport memcmp, memcpy

cdef enum:
    VALUE_BYTES = 16  # a float64, and a float64 that says when it was set


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
    cdef Py_ssize_t number, at = 0
    cdef double value[2]
    cdef list found = []
    if start < 0 or start + size > PyBytes_GET_SIZE(data):
        return None
    for number in range(count):
        if place[number] < at or place[number] + VALUE_BYTES > size:
            raise ValueError("places out of order, or beyond the image")
        if memcmp(read + at, known + at, place[number] - at):
            return None
        memcpy(value, read + place[number], VALUE_BYTES)
        if counts and not 0 <= value[0] < INFINITY:
            return None
        found.append(value[0])
        if timed:
            found.append(value[1])
        at = place[number] + VALUE_BYTES
    if memcmp(read + at, known + at, size - at):
        return None
    return tuple(found)
