# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: binding=False, always_allow_keywords=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=clinic
"""Slabs, free stacks, buffers and their counters.

A *slab* is one mapping cut into *slots* of one size class. A slot is free (on its class's stack),
checked out (under a `checkout_id`), or in quarantine (returned while it still has views). A
`Buffer` is a handle: it knows its slot and its own checkout. A slot can be taken back without
touching the handle, which from then on is a released one.

Every change of state happens inside one C call that keeps the GIL and runs no Python code. Signal
handlers, asynchronous exceptions and other threads run between bytecodes, so none of them can see
or cause half a change: no locks are needed, and no buffer is lost or handed out twice.

An `Arena` belongs to one process. After a fork the child's pools begin with a new one. The
inherited arena stays mapped while inherited buffers use it, and counts nothing.

The parts in _core/ are included here, so that the compiler sees the whole path of a buffer.
"""

cimport cython
from cpython.buffer cimport (PyBUF_INDIRECT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo,
                             PyBuffer_IsContiguous, PyBuffer_Release, PyObject_CheckBuffer,
                             PyObject_GetBuffer)
from cpython.contextvars cimport get_value
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_WarnEx
from cpython.object cimport PyObject, PyTypeObject, destructor
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import logging
import operator
import warnings
from contextvars import ContextVar
from sys import is_finalizing

from bufpool_workers.errors import LimitExceeded, PoolClosed
from bufpool_workers.memory cimport _bytes
from bufpool_workers.memory._keystream cimport (KEY_BYTES, ensure_keystream, fill_from_kernel,
                                                is_large, read_keystream)
from bufpool_workers.memory._mapping cimport (MEMFD, MLOCK, PLAIN, RANDOM, REGULAR, SECURE, Kind,
                                              Level, Mapping, can_map, generation, map_memory,
                                              page_bytes, touch, unmap_memory)
from bufpool_workers.memory._os cimport pthread_atfork
from bufpool_workers.memory._signals cimport (hold_signals, put_back_in_child,
                                              release_signals)
from bufpool_workers import _loading
from bufpool_workers.memory import _keystream
from bufpool_workers.memory.protection import level_error
from bufpool_workers.pool_stats import (FIELDS, LEVELS, TASK_FIELDS, PoolStats,  # LEVELS: as Level
                                        WarmupResult)
from bufpool_workers.units import parse_size, size_label

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    bint PyIndex_Check(object)
    bint PyLong_CheckExact(object)
    Py_ssize_t PyLong_AsSsize_t(object) noexcept
    Py_ssize_t PyNumber_AsSsize_t(object, PyObject* error) except? -1    # clipped if it is NULL
    object PySeqIter_New(object)
    int PySlice_Unpack(object, Py_ssize_t* start, Py_ssize_t* stop, Py_ssize_t* step) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t, Py_ssize_t* start, Py_ssize_t* stop,
                                     Py_ssize_t step) noexcept

cdef extern from *:
    ctypedef object (*ssizeargfunc)(object, Py_ssize_t)
    ctypedef struct PySequenceMethods:
        ssizeargfunc sq_item
    ctypedef struct SequenceType "PyTypeObject":
        PySequenceMethods* tp_as_sequence

cdef object logger = logging.getLogger("bufpool_workers.memory")

include "_core/counters.pyx"
include "_core/tasks.pyx"
include "_core/slots.pyx"
include "_core/arena.pyx"
include "_core/slabs.pyx"
include "_core/secure.pyx"
include "_core/scope.pyx"
include "_core/misuse.pyx"
include "_core/buffer.pyx"
include "_core/dropping.pyx"
include "_core/contents.pyx"
include "_core/pool.pyx"
include "_core/process.pyx"
