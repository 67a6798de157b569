import functools
import inspect
import sys
import typing
import warnings

import numpy as np
import pytest
from celery import Celery

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import current_runtime


@pytest.fixture(autouse=True)
def _pools():
    testing.reset()
    yield
    assert bp.stats().total.in_use == 0
    current_runtime().stop_process()


@pytest.fixture
def app():
    return Celery("test", set_as_current=False)


def test_each_call_gets_a_buffer_of_that_size():
    @bp.pooled_buffer("4KiB")
    def work(*, buf):
        assert not buf.released
        return buf, len(buf)

    first, size = work()
    assert (size, first.released) == (4096, True)


def test_buffer_goes_back_when_the_task_raises():
    @bp.pooled_buffer(100)
    def work(*, buf):
        raise RuntimeError(len(buf))

    with pytest.raises(RuntimeError, match="100"):
        work()
    assert bp.stats().total.in_use == 0


@pytest.mark.parametrize("kind", ["regular", "secure", "random"])
def test_kind_chooses_the_pool(kind):
    @bp.pooled_buffer(32, name="key", kind=kind)
    def work(*, key):
        return key.kind

    assert work() == kind


def test_stacked_decorators_give_one_buffer_each():
    @bp.pooled_buffer(100)
    @bp.pooled_buffer(200, name="other")
    def work(path, *, buf, other):
        return path, len(buf), len(other)

    assert work("x") == ("x", 100, 200)
    assert str(inspect.signature(work)) == "(path)"


def test_signature_hides_the_buffer_and_keeps_the_rest():
    @bp.pooled_buffer(100)
    def work(path: str, mode: str = "r", *, deep: bool = False, buf: bp.Buffer) -> int:
        """Do it."""

    assert (
        str(inspect.signature(work)) == "(path: str, mode: str = 'r', *, deep: bool = False) -> int"
    )
    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert typing.get_type_hints(work)["path"] is str


def test_annotations_need_not_be_there_at_run_time(app):
    """As names that are imported under `if TYPE_CHECKING`."""
    later = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    names = {"bp": bp}
    exec(  # noqa: S102 - the import of annotations is for this function alone
        f"{later}"
        "@bp.pooled_buffer(lambda size: size)\n"
        "def work(size: Missing, *, buf: Missing) -> Missing:\n"
        "    return len(buf)\n",
        names,
    )
    assert app.task(name="work")(names["work"])(7) == 7


def test_buffer_with_a_default_is_given_all_the_same():
    @bp.pooled_buffer(100)
    def work(*, buf=None):
        return len(buf)

    assert work() == 100


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(("abc",), {}), ((), {"path": "abc"}), (("abc", 5), {}), (("abc",), {"times": 5})],
)
def test_size_function_gets_the_arguments_by_name(args, kwargs):
    @bp.pooled_buffer(lambda path, **_: len(path))
    def work(path, times=1, *, buf):
        return len(buf), times

    assert work(*args, **kwargs)[0] == 3


def test_size_function_gets_defaults_and_keyword_arguments():
    @bp.pooled_buffer(lambda size, extra, more: size + extra + more)
    def work(size=10, *, extra=5, buf, **options):
        return len(buf), options

    assert work(more=1) == (16, {"more": 1})


@pytest.mark.parametrize(
    ("size", "nbytes"),
    [
        (lambda: 7, 7),
        (lambda path: len(path), 3),
        (lambda times: times, 2),
        (lambda path, unit=10: len(path) * unit, 30),
        (lambda times, unit=10, deep=False: times * unit + deep, 21),
        (lambda path, /: len(path), 3),
        (lambda **named: len(named["path"]) + named["times"] + named["more"], 9),
        (lambda path, more: len(path) + more, 7),
        (functools.partial(lambda unit, path: unit * len(path), 10), 30),
    ],
)
def test_size_function_gets_the_parameters_that_it_names(size, nbytes):
    @bp.pooled_buffer(size)
    def work(path, times=2, *, deep=True, buf, **options):
        return len(buf), path, times, deep, options

    assert work("abc", more=4) == (nbytes, "abc", 2, True, {"more": 4})


def test_size_function_of_a_stacked_decorator_sees_no_buffer():
    @bp.pooled_buffer(100, name="other")
    @bp.pooled_buffer(lambda **named: len(named))
    def work(path, mode="r", *, buf, other):
        return len(buf), len(other)

    assert work("x") == (2, 100)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {}),
        ((1, 2, 3, 4), {}),
        ((), {"a": 1, "b": 2}),
        ((1, 2), {"d": 3, "e": 4}),
        ((1,), {"b": 2, "buf": 3}),
    ],
)
def test_wrong_arguments_are_refused_in_the_function_s_name(args, kwargs):
    def plain(a, /, b, *, c=0, d=1):
        raise AssertionError

    def work(a, /, b, *, c=0, d=1, buf):
        raise AssertionError

    work.__qualname__ = plain.__qualname__
    with pytest.raises(TypeError) as expected:
        plain(*args, **kwargs)
    with pytest.raises(TypeError) as caught:
        bp.pooled_buffer(1)(work)(*args, **kwargs)
    assert str(caught.value) == str(expected.value)
    assert bp.stats().total.gets == 0  # refused before a buffer is lent


def every_form(  # noqa: PLR0913 - one of each
    a, /, b, c=3, *args, d, e=5, buf, **kwargs
):
    return a, b, c, args, d, e, len(buf), kwargs


@pytest.mark.parametrize("size", [10, lambda b: 10], ids=["constant", "function"])
def test_arguments_arrive_as_they_were_given(size):
    work = bp.pooled_buffer(size)(every_form)
    assert work(1, 2, d=4) == (1, 2, 3, (), 4, 5, 10, {})
    assert work(1, b=2, d=4, a=9) == (1, 2, 3, (), 4, 5, 10, {"a": 9})
    assert work(1, 2, 7, 8, 9, d=4, e=6, f=1) == (1, 2, 7, (8, 9), 4, 6, 10, {"f": 1})


def test_function_below_another_library_s_decorator_is_called_as_the_caller_did():
    def injecting(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            return function("injected", *args, **kwargs)

        return call

    @bp.pooled_buffer(100)
    @injecting
    def work(session, path, *, buf):
        return session, path, len(buf)

    assert work("x") == work(path="x") == ("injected", "x", 100)


def test_parameters_may_have_any_name():
    @bp.pooled_buffer(lambda function, call: function + call)
    def work(function, call, blame, args=1, kwargs=2, *, buf):  # noqa: PLR0913 - as above
        return len(buf), blame, args, kwargs

    assert work(1, 2, 3) == (3, 3, 1, 2)


def test_size_function_may_give_text_and_take_a_buffer():
    def size(path):
        with bp.buffer(10):
            return "1KiB"

    @bp.pooled_buffer(size)
    def work(path, *, buf):
        return len(buf)

    assert work("x") == 1024


def test_error_of_the_size_function_is_the_call_s():
    @bp.pooled_buffer(lambda path: 1 // len(path))
    def work(path, *, buf):
        raise AssertionError

    with pytest.raises(ZeroDivisionError):
        work("")


@pytest.mark.parametrize("given", [None, 1.5, True, b"1KiB"])
def test_bad_size_from_size_function_names_task(given):
    @bp.pooled_buffer(lambda: given, kind="secure")
    def work(*, buf):
        raise AssertionError

    kind = type(given).__name__
    with pytest.raises(TypeError, match=rf"size function of \S+\.work gave {kind}, not an int"):
        work()


def test_size_function_may_give_an_integer_of_numpy_s():
    @bp.pooled_buffer(lambda: np.int64(7))
    def work(*, buf):
        return len(buf)

    assert work() == 7


def test_missing_argument_is_named_as_without_a_size_function():
    @bp.pooled_buffer(lambda path: 1)
    def work(path, *, buf):
        raise AssertionError

    with pytest.raises(TypeError, match="path"):
        work()


def test_self_of_a_bound_task_is_no_argument_of_the_size(app):
    @app.task(bind=True, shared=False)
    @bp.pooled_buffer(lambda path: len(path))
    def work(self, path, *, buf):
        return self.name, len(buf)

    assert work("abc")[1] == 3
    assert work.apply(("abcd",)).get()[1] == 4


def test_caller_can_not_pass_the_buffer(app):
    @app.task(shared=False)
    @bp.pooled_buffer(100)
    def work(path, *, buf):
        raise AssertionError

    with pytest.raises(TypeError, match="got an unexpected keyword argument 'buf'"):
        work("x", buf=b"")
    with pytest.raises(TypeError, match="unexpected keyword argument 'buf'"):
        work.delay("x", buf=b"")


def test_wrong_arguments_are_refused_at_the_call(app):
    @app.task(shared=False)
    @bp.pooled_buffer(100)
    def work(path, *, buf):
        raise AssertionError

    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        work.delay()


def test_above_the_task_decorator_is_refused(app):
    with pytest.raises(TypeError, match="stands below"):

        @bp.pooled_buffer(100)
        @app.task(shared=False)
        def work(*, buf):
            pass

    app.finalize()
    with pytest.raises(TypeError, match="stands below"):

        @bp.pooled_buffer(100)
        @app.task(shared=False)
        def other(*, buf):
            pass


def generator(*, buf):
    yield


async def async_generator(*, buf):
    yield


@pytest.mark.parametrize("function", [generator, async_generator])
def test_functions_that_run_later_are_refused(function):
    with pytest.raises(TypeError, match="is a generator function, which runs after"):
        bp.pooled_buffer(100)(function)


@pytest.mark.parametrize(
    "function",
    [lambda: 0, lambda buf: 0, lambda *buf: 0, lambda **buf: 0, lambda *, other: 0],
)
def test_parameter_must_be_there_and_keyword_only(function):
    with pytest.raises(TypeError, match="keyword-only parameter 'buf'"):
        bp.pooled_buffer(100)(function)


@pytest.mark.parametrize("thing", [int, "work", 7])
def test_only_functions_are_decorated(thing):
    with pytest.raises(TypeError, match="pooled_buffer is for functions"):
        bp.pooled_buffer(100)(thing)


def test_callable_without_a_signature_is_refused():
    class Work:
        __signature__ = "no signature"

        def __call__(self, *, buf):
            raise AssertionError

    with pytest.raises(TypeError, match="pooled_buffer: Work has no signature"):
        bp.pooled_buffer(100)(Work())


class Reader:
    def __call__(self, path, *, buf):
        return path, len(buf)

    def read(self, path, *, buf):
        return path, len(buf)


def read(prefix, path, *, buf):
    return prefix + path, len(buf)


@pytest.mark.parametrize(
    "thing",
    [Reader(), Reader().read, functools.partial(read, "")],
    ids=["object", "method", "partial"],
)
def test_anything_with_a_signature_and_that_parameter_is_decorated(thing):
    work = bp.pooled_buffer(lambda path: len(path))(thing)
    assert work("abc") == work(path="abc") == ("abc", 3)
    assert str(inspect.signature(work)) == "(path)"
    assert work.__name__ == getattr(thing, "__name__", type(thing).__name__)


def test_without_a_size_it_is_refused():
    with pytest.raises(TypeError, match="needs a size"):

        @bp.pooled_buffer
        def work(*, buf):
            pass


@pytest.mark.parametrize(
    ("size", "error"),
    [(-1, ValueError), ("4KB", ValueError), (True, TypeError), (1.5, TypeError), (None, TypeError)],
)
def test_bad_size_is_refused_where_it_is_written(size, error):
    with pytest.raises(error):
        bp.pooled_buffer(size)


def test_bad_kind_is_refused():
    with pytest.raises(ValueError, match="one of regular, secure, random"):
        bp.pooled_buffer(1, kind="liquid")


def test_size_function_for_other_arguments_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match="wants size; the task has path"):

        @bp.pooled_buffer(lambda size: size)
        def work(path, *, buf):
            pass


def test_escape_names_the_function():
    kept = []

    @bp.pooled_buffer(100)
    def work(*, buf):
        kept.append(buf[:])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    assert caught[0].filename == __file__
    assert caught[0].lineno == inspect.unwrap(work).__code__.co_firstlineno
    kept.clear()


def test_nested_eager_tasks_hold_two_buffers(app):
    app.conf.task_always_eager = True
    bp.setup(app)

    @app.task(shared=False)
    @bp.pooled_buffer(100)
    def inner(*, buf):
        return bp.stats().regular.in_use

    @app.task(shared=False)
    @bp.pooled_buffer(100)
    def outer(*, buf):
        return inner.delay().get(disable_sync_subtasks=False), bp.stats().regular.in_use

    assert outer.delay().get() == (2, 1)


def test_held_buffer_is_reclaimed_at_the_end_of_its_task_only(app):
    app.conf.task_always_eager = True
    bp.setup(app)
    held = []

    @app.task(shared=False)
    def inner():
        held.append(bp.buffer(10))

    @app.task(shared=False)
    def outer():
        mine = bp.buffer(20)
        inner.delay()
        assert held[0].released
        assert len(mine) == 20
        mine.release()

    outside = bp.buffer(30)
    with pytest.warns(ResourceWarning, match="inner ended holding a buffer of 10 bytes"):
        assert outer.delay().successful()
    assert len(outside) == 30
    outside.release()
    assert bp.stats().total.reclaims == 1
