"""A Buffer compares, searches and takes bytes as a bytearray does, and copies no secret."""

import copy
import operator
import pickle
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bufpool_workers as bp
from tests.memory.pools import make_pool
from tests.support.forked import check_forked

SECRET_KINDS = ("secure", "random")


def filled(pool, content):
    buffer = pool.acquire(len(content))
    buffer[:] = content
    return buffer


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, np.frombuffer])
def test_equality_compares_bytes_with_any_contiguous_object(pool, make):
    if make is np.frombuffer:
        make = lambda content: np.frombuffer(content, np.uint8)  # noqa: E731
    with filled(pool, b"hello") as buffer:
        assert (buffer == make(b"hello"), buffer != make(b"hello")) == (True, False)
        for other in (b"hellp", b"jello", b"hell", b"hello!", b""[:0] + b"x"):
            assert (buffer == make(other), buffer != make(other)) == (False, True)
        assert (b"hello" == buffer, bytearray(b"hello") == buffer) == (True, True)  # noqa: SIM300


@given(st.binary(max_size=70), st.data())
def test_equality_sees_each_bit(content, data):
    with make_pool("secure").acquire(len(content)) as buffer:
        buffer[:] = content
        assert buffer == content
        if content:
            other = bytearray(content)
            other[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            assert buffer != other


def test_equality_of_buffers_and_other_item_sizes(pool):
    floats = np.arange(4, dtype=np.float32)
    with pool.acquire(16) as one, make_pool().acquire(16) as other:
        one[:] = floats
        other[:] = one
        assert one == other
        assert one == floats
        assert one == floats.reshape(2, 2)
        assert one == one  # noqa: PLR0124


@pytest.mark.parametrize(
    "other", ["hello", None, 5, [104, 101, 108, 108, 111], memoryview(b"h.e.l.l.o.")[::2]]
)
def test_equality_with_what_is_not_bytes_in_a_row_is_not_implemented(pool, other):
    with filled(pool, b"hello") as buffer:
        assert buffer.__eq__(other) is NotImplemented
        assert buffer.__ne__(other) is NotImplemented


def test_equality_of_an_array_that_is_not_contiguous_is_not_implemented(pool):
    with filled(pool, b"hello") as buffer:
        for array in (np.zeros(10, np.uint8)[::2], np.zeros((5, 5), np.uint8)[:, :1]):
            assert buffer.__eq__(array) is NotImplemented


def test_released_buffer_equals_itself_and_compares_with_nothing_else(pool):
    with pool.acquire(5) as other:
        buffer = pool.acquire(5)
        buffer.release()
        assert buffer == buffer  # noqa: PLR0124
        for right in (bytes(5), other, "text", None):
            with pytest.raises(ValueError, match="buffer is released"):
                buffer == right  # noqa: B015
        with pytest.raises(ValueError, match="buffer is released"):
            other == buffer  # noqa: B015


def test_error_of_the_other_operand_is_not_swallowed(pool):
    view = memoryview(b"hello")
    view.release()
    with filled(pool, b"hello") as buffer, pytest.raises(ValueError, match="released memoryview"):
        buffer == view  # noqa: B015


@pytest.mark.parametrize("kind", SECRET_KINDS)
def test_buffer_of_the_parent_does_not_compare_in_a_fork(kind):
    with make_pool(kind).acquire(5) as buffer:

        def compare():
            with pytest.raises(ValueError, match="before the fork"):
                buffer == bytes(5)  # noqa: B015
            with pytest.raises(ValueError, match="before the fork"):
                buffer.find(b"")

        check_forked(compare)


def test_it_has_no_order_and_no_hash(pool):
    with pool.acquire(5) as buffer:
        for compare in (operator.lt, operator.le, operator.gt, operator.ge):
            with pytest.raises(TypeError):
                compare(buffer, bytes(5))
        with pytest.raises(TypeError, match="unhashable"):
            hash(buffer)


BYTES = st.binary(max_size=12) | st.sampled_from([b"", b"a", b"ab", b"aba"])
BOUNDS = st.none() | st.integers(-15, 15)


@given(st.lists(st.sampled_from(b"ab\0")).map(bytes), BYTES | st.integers(0, 255), BOUNDS, BOUNDS)
def test_searches_answer_as_those_of_bytearray(content, part, start, end):
    model = bytearray(content)
    with filled(make_pool("secure"), content) as buffer:
        assert (part in buffer) == (part in model)
        for name in ("find", "count"):
            assert getattr(buffer, name)(part, start, end) == getattr(model, name)(part, start, end)
        if isinstance(part, bytes):
            for name in ("startswith", "endswith"):
                for given_part in (part, (b"x", part)):
                    expected = getattr(model, name)(given_part, start, end)
                    assert getattr(buffer, name)(given_part, start, end) is expected
        try:
            at = model.index(part, start, end)
        except ValueError:
            with pytest.raises(ValueError, match="not found"):
                buffer.index(part, start, end)
        else:
            assert buffer.index(part, start, end) == at


@pytest.mark.parametrize(
    ("part", "error"), [("a", TypeError), (1.5, TypeError), (256, ValueError), (-1, ValueError)]
)
def test_searches_refuse_what_those_of_bytearray_refuse(part, error):
    with filled(make_pool(), b"hello") as buffer:
        for search in (buffer.find, buffer.index, buffer.count, buffer.__contains__):
            with pytest.raises(error):
                search(part)
        for search in (buffer.startswith, buffer.endswith):
            with pytest.raises(TypeError):
                search(part)


def test_iteration_gives_ints_and_is_no_view(pool):
    with filled(pool, b"abc") as buffer:
        assert isinstance(buffer, Iterable)
        assert list(buffer) == [97, 98, 99]
        assert list(reversed(buffer)) == [99, 98, 97]
        left_over = iter(buffer)
        assert next(left_over) == 97
    with pytest.raises(ValueError, match="released"):
        next(left_over)
    assert pool.stats().escapes == 0


def test_assignment_takes_any_item_size_and_shape():
    with make_pool().acquire(16) as buffer:
        floats = np.array([[1.5, 2.5], [3.5, 4.5]], np.float32)
        for array in (floats, floats.astype(">f4"), np.zeros(2, "M8[s]"), floats[:, ::-1]):
            if array.flags.c_contiguous:
                buffer[:] = array
                assert bytes(buffer) == array.tobytes()
            else:
                with pytest.raises(ValueError, match=r"numpy\.ascontiguousarray"):
                    buffer[:] = array
        buffer[:] = np.arange(8, dtype=np.float32)[::-2]
        assert np.frombuffer(buffer, np.float32).tolist() == [7, 5, 3, 1]
        buffer[::-1] = buffer[:]
        assert bytes(buffer[::-1]) == np.array([7, 5, 3, 1], np.float32).tobytes()


@given(st.binary(max_size=40), st.slices(40), st.data())
def test_assignment_to_slices_is_that_of_bytearray_of_equal_length(content, key, data):
    length = len(content[key])
    new = data.draw(st.binary(min_size=length, max_size=length))
    for value in (new, bytearray(new), list(new), iter(new), memoryview(new)):
        with filled(make_pool(), content) as buffer:
            buffer[key] = value
            expected = bytearray(content)
            expected[key] = new
            assert buffer == expected


@pytest.mark.parametrize("shift", [slice(1, None), slice(None, -1), slice(None, None, -1)])
def test_assignment_from_its_own_memory_reads_before_it_writes(shift):
    content = bytes(range(10))
    with filled(make_pool(), content) as buffer:
        part = bytes(buffer[shift])
        buffer[: len(part)] = buffer[shift]
        assert bytes(buffer[: len(part)]) == part


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"abcd", ValueError),
        ([1, 2], ValueError),
        ([1, 2, 3, 4], ValueError),
        ([1, 2, 256], ValueError),
        ([1, 2, -1], ValueError),
        ([1, 2, 10**30], ValueError),
        ([1, 2, "a"], TypeError),
        ([1, 2, 3.0], TypeError),
        ("abc", TypeError),
        (3, TypeError),
        (None, TypeError),
        (np.zeros(3, np.float32), ValueError),
    ],
)
def test_refused_assignment_writes_nothing(value, error):
    with filled(make_pool(), b"hello") as buffer:
        with pytest.raises(error):
            buffer[1:4] = value
        assert buffer == b"hello"


def test_ints_from_code_that_releases_the_buffer_reach_no_other_task():
    pool = make_pool(warm={2048: 1})
    pool.warm()
    buffer = pool.acquire(4)

    def ints():
        yield 1
        with pytest.warns(ResourceWarning, match="outlived"):
            buffer.__exit__(None, None, None)
        others.append(pool.acquire(4))
        others[0][:] = b"mine"
        yield from (2, 3, 4)

    others = []
    buffer[:] = ints()
    assert others[0] == b"mine"
    others[0].release()


def test_regular_buffer_copies_to_objects_that_belong_to_no_pool():
    pool = make_pool()
    with filled(pool, b"hello") as buffer:
        assert (buffer.hex(), buffer.hex(":"), buffer.hex("-", 2)) == (
            "68656c6c6f",
            "68:65:6c:6c:6f",
            "68-656c-6c6f",
        )
        assert (buffer.decode(), buffer.decode("utf-16-le", "ignore")) == ("hello", "敨汬")
        for made in (buffer.copy(), copy.copy(buffer), copy.deepcopy(buffer), buffer + b""):
            assert type(made) is bytearray
            assert made == b"hello"
        assert (b"<" + buffer, bytearray(b"<") + buffer) == (b"<hello", b"<hello")
        with pytest.raises(TypeError):
            buffer + "text"
        with pytest.raises(TypeError, match="does not grow"):
            extended(buffer, b"!")
    assert (pool.stats().gets, pool.stats().escapes) == (1, 0)


def extended(left, right):
    left += right
    return left


COPIES = {
    "hex": lambda buffer: buffer.hex(),
    "decode": lambda buffer: buffer.decode(),
    "copy": lambda buffer: buffer.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "buffer + bytes": lambda buffer: buffer + b"",
    "bytes + buffer": lambda buffer: b"" + buffer,
    "bytearray + buffer": lambda buffer: bytearray() + buffer,
    "bytearray += buffer": lambda buffer: extended(bytearray(), buffer),
    "bytes += buffer": lambda buffer: extended(b"", buffer),
    "regular + buffer": lambda buffer: filled(make_pool(), b"") + buffer,
    "buffer += bytes": lambda buffer: extended(buffer, b""),
    "pickle": pickle.dumps,
    "hash": hash,
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", SECRET_KINDS)
@pytest.mark.parametrize("name", COPIES)
def test_what_would_copy_a_secret_is_refused_without_quoting_it(kind, name):
    with filled(make_pool(kind), b"\xffkept-for-me") as buffer:
        with pytest.raises(TypeError) as raised:
            COPIES[name](buffer)
        assert "kept" not in repr(raised.value)
        assert buffer == b"\xffkept-for-me"


@pytest.mark.parametrize("kind", SECRET_KINDS)
def test_no_error_of_a_secret_buffer_quotes_it(kind):
    """Every method, with arguments that it refuses."""
    content = b"\xffkept-for-me"
    arguments = [(), ("text",), (-1,), (300,), (b"zz",), (None, None, None, None), (object(),)]
    with filled(make_pool(kind), content) as buffer:
        for name in dir(bp.Buffer):
            if name in {"release", "__exit__", "__class__", "__init_subclass__", "__buffer__"}:
                continue
            method = getattr(buffer, name)
            for given_arguments in arguments if callable(method) else []:
                try:
                    shown = repr(method(*given_arguments))
                except Exception as error:  # noqa: BLE001 - whatever it is, it must not tell
                    shown = f"{error!r} {error.__context__!r} {error.__cause__!r}"
                assert "kept" not in shown, name
                assert content.hex() not in shown, name
        assert not buffer.released
