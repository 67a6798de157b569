"""The compiled look for plain data: nothing that a walk would look at may pass as plain."""

import datetime as dt
import decimal
from collections import OrderedDict, UserDict, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bufpool_workers.errors import NotSealed
from bufpool_workers.sealing._scan import may_hold_calls
from bufpool_workers.sealing.walk import Walk

CALL = {"task": "shop.login", "args": ["ada", "plain"]}


class Looker(Walk):
    """Collects the calls that it is shown."""

    def __init__(self):
        super().__init__("here")
        self.calls = []

    def look_at_mapping(self, mapping, context):
        if {"args", "kwargs"} & mapping.keys():
            self.calls.append(mapping)
        return super().look_at_mapping(mapping, context)


def found(value):
    looker = Looker()
    looker.look(value)
    return looker.calls


def is_plain(value):
    return not may_hold_calls(value, lambda _: False)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


def containers(inside):
    names = st.sampled_from(["args", "kwargs", "task", "a"]) | st.text(max_size=3)
    return st.one_of(
        st.lists(inside, max_size=4),
        st.lists(inside, max_size=4).map(tuple),
        st.lists(inside, max_size=4).map(deque),
        st.dictionaries(names, inside, max_size=4),
        st.dictionaries(names, inside, max_size=4).map(OrderedDict),
        st.dictionaries(names, inside, max_size=4).map(UserDict),
    )


def mappings_in(value):
    """Find calls without any code of ours."""
    if isinstance(value, dict | UserDict):
        yield from [value] if {"args", "kwargs"} & value.keys() else []
        value = list(value.values())
    if isinstance(value, list | tuple | deque):
        for item in value:
            yield from mappings_in(item)


@given(st.recursive(leaves, containers, max_leaves=30))
def test_every_call_is_found(value):
    calls = list(mappings_in(value))
    assert {id(call) for call in found(value)} >= {id(call) for call in calls}
    assert not (calls and is_plain(value))


@given(st.recursive(leaves, lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside)))
def test_plain_data_is_told_as_such(value):
    assert is_plain(value) == (not list(mappings_in(value)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda call: [call],
        lambda call: (1, (2, call)),
        lambda call: {"a": [{"b": call}]},
        lambda call: deque([call]),
        lambda call: iter([call]),
        lambda call: [map(dict, [call])],
        lambda call: OrderedDict(a=call),
        lambda call: UserDict(a=call),
        lambda call: [decimal.Decimal(1), dt.datetime.now(dt.UTC), call],
    ],
)
def test_a_call_is_found_in_any_container(wrap):
    assert found(wrap(CALL)) == [CALL]


class Name(str):
    """A string of the user's, as an enum's members may be."""

    __slots__ = ()


class Equal:
    """Equal to a string that it is not."""

    def __eq__(self, other):
        return other == "kwargs"

    def __hash__(self):
        return hash("kwargs")


@pytest.mark.parametrize("key", ["args", Name("args"), Equal()], ids=["str", "subclass", "equal"])
@pytest.mark.parametrize("others", [(), ("a", "area", "key", "kwarg"), (1, (2, 3))])
def test_a_call_is_found_by_any_key_that_is_equal(key, others):
    call = dict.fromkeys(others, 1) | {key: ["ada", "plain"]}
    assert found([call]) == [call]


@given(st.dictionaries(st.text(max_size=7) | st.integers() | st.tuples(st.integers()), leaves))
def test_other_keys_are_plain(value):
    value.pop("args", None), value.pop("kwargs", None)
    assert is_plain(value)


def test_containers_that_shrink_in_the_middle_do_no_harm():
    def empty(_):
        for container in (items, mapping):
            container.clear()
        return True

    items, mapping = [object(), *map(str, range(1000))], {}
    assert not may_hold_calls(items, empty)
    mapping.update({"a": object()}, **{str(n): str(n) for n in range(1000)})
    assert not may_hold_calls(mapping, empty)


def test_an_iterator_becomes_a_list_wherever_it_stands():
    value = {"a": [1, {"b": iter([1, 2])}]}
    assert Looker().look(value) == {"a": [1, {"b": [1, 2]}]}


def test_a_type_is_asked_about_once():
    asked = []

    def judge(value):
        asked.append(value)
        return True

    dates = [dt.date(2020, 1, day) for day in range(1, 20)]
    assert not may_hold_calls([dates, (1, dates)], judge)
    assert asked == dates[:1]


def test_circles_and_shared_data_come_to_an_end():
    circle = [1]
    circle.append(circle)
    shared = [1]
    for _ in range(60):
        shared = [shared, shared]
    for value in (circle, shared):
        assert not is_plain(value)  # the walk sees to it
        assert found(value) == []


def test_data_that_is_nested_too_deep_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotSealed, match="nested too deep"):
        found(deep)


def test_an_error_of_the_judge_is_raised():
    def fail(_):
        raise KeyError

    with pytest.raises(KeyError):
        may_hold_calls([object()], fail)
