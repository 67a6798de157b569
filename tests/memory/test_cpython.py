"""CPython's own tests of bytearray and memoryview hold for a Buffer, but for what is listed here.

They come from the running interpreter's package `test`, which some distributions leave out.
"""

import importlib
import unittest
import warnings

import pytest

import bufpool_workers as bp
from tests.memory.pools import make_pool

# what differs from a bytearray on purpose: a Buffer ..., and the tests that show it; as an exporter
# of memoryviews it differs in nothing
OTHERWISE = {
    "comes from a pool, not from a constructor with its class methods": """
        test_basics test_check_encoding_errors test_free_after_iterating test_fromhex
        test_init_alloc test_maketrans
    """,
    "has a fixed length: += and slices of another length are refused": """
        test_alloc test_append test_clear test_del_expand test_delitem test_exhausted_iterator
        test_extend test_extended_set_del_slice test_fifo_overrun test_iconcat test_insert
        test_irepeat test_irepeat_1char test_iterator_length_hint test_mutating_index test_pop
        test_remove test_repeat_after_setslice test_resize_forbidden test_setslice
        test_setslice_extend test_setslice_trap
    """,
    "makes no new bytes but with those methods that are documented: ask bytes(buf) for others": """
        test_center test_copied test_imod test_join test_ljust test_mod test_partition
        test_partition_bytearray_doesnt_share_nullstring test_partition_int_error
        test_partition_string_error test_repeat test_repeat_1char test_replace
        test_replace_int_error test_reverse test_rjust test_rmod test_rpartition
        test_rsplit_unicodewhitespace test_split_int_error test_split_string_error
        test_split_unicodewhitespace test_strip_bytearray test_strip_int_error
        test_strip_string_error test_translate test_xjust_int_error
    """,
    "searches from its beginning only: no rfind, no rindex": """
        test_find_etc_raise_correct_error_messages test_integer_arguments_out_of_byte_range
        test_none_arguments test_rfind test_rindex
    """,
    "has no order: a sort would tell of a secret": "test_compare",
    "cannot be pickled": "test_iterator_pickling test_iterator_pickling2 test_pickling",
    "has memoryviews for slices": "test_ord",
    "words errors as a memoryview does": "test_getitem_error test_setitem_error",
    "takes None for no separator": "test_hex_separator_basics",
}
DIFFERENT = {name: reason for reason, names in OTHERWISE.items() for name in names.split()}


def module_of_cpython(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"test.{name}")
        except ModuleNotFoundError as missing:
            return missing


BYTES, VIEWS = module_of_cpython("test_bytes"), module_of_cpython("test_memoryview")


class Maker:
    """What the tests take for a type: it makes buffers, and keeps them until the test is over."""

    def __init__(self):
        self.pool = make_pool(max_bytes=64 << 20, max_buffer_bytes=64 << 20)
        self.made = []

    def __call__(self, *arguments, **keywords):
        content = bytearray(*arguments, **keywords)
        buffer = self.pool.acquire(len(content))
        buffer[:] = content
        self.made.append(buffer)
        return buffer

    def __getattr__(self, name):
        return getattr(bp.Buffer, name)

    def release_all(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            for buffer in self.made:
                buffer.__exit__(None, None, None)  # also with views, which a cycle may still hold


def cases(module, name):
    """Return the names of the tests of one of CPython's classes, to run with another type."""
    if isinstance(module, Exception):
        reason = pytest.mark.skip(reason=f"this interpreter comes without its tests: {module}")
        return [pytest.param(name, "none", marks=reason)]
    return [(name, test) for test in unittest.TestLoader().getTestCaseNames(getattr(module, name))]


def run(module, name, test, *, type_name):
    """Run a test of CPython's with Buffer in place of bytearray; return what went wrong."""
    maker = Maker()
    case = getattr(module, name)(test)
    setattr(case, type_name, maker)
    result = unittest.TestResult()
    try:
        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
            warnings.simplefilter("ignore", DeprecationWarning)
            patch.setattr(module, "bytearray", maker, raising=False)
            case.run(result)
    finally:
        maker.release_all()
    if result.skipped:
        pytest.skip(result.skipped[0][1])
    return "\n".join(text for _, text in result.errors + result.failures)


@pytest.mark.parametrize(("name", "test"), cases(BYTES, "ByteArrayTest"))
def test_bytearray(name, test):
    wrong = run(BYTES, name, test, type_name="type2test")
    if test in DIFFERENT:
        assert wrong, f"{test} passes: take it from the list"
    else:
        assert not wrong, wrong


@pytest.mark.parametrize(
    ("name", "test"),
    [
        case
        for name in ("BytesMemoryviewTest", "BytesMemorySliceTest", "BytesMemorySliceSliceTest")
        for case in cases(VIEWS, name)
    ],
)
def test_memoryview(name, test):
    wrong = run(VIEWS, name, test, type_name="rw_type")
    assert not wrong, wrong
