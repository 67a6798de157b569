"""Records: they are dataclasses to all that asks, though their methods are not compiled."""

import copy
import dataclasses
import inspect
import pickle

import pytest

from bufpool_workers._record import record_class


@record_class(frozen=True, kw_only=True, slots=True)
class Point:
    """A place."""

    x: int
    y: int = 0
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    hidden: str = dataclasses.field(default="", repr=False)


@record_class(frozen=True, kw_only=True, slots=True)
class Named(Point):
    """A place with a name."""

    name: str


ONE = Point(x=1, tags={"a": "b"}, hidden="secret")


def test_fields_have_what_was_given_and_their_defaults():
    assert (ONE.x, ONE.y, ONE.tags, ONE.hidden) == (1, 0, {"a": "b"}, "secret")
    assert Named(x=1, name="here").name == "here"


def test_each_record_has_defaults_of_its_own():
    assert Point(x=1).tags is not Point(x=1).tags


@pytest.mark.parametrize("given", [{}, {"x": 1, "z": 2}, {"z": 2}], ids=str)
def test_missing_and_unknown_fields_are_named(given):
    wrong = given.keys() ^ {"x"}
    with pytest.raises(TypeError, match=f"^Point: missing or unknown: {', '.join(sorted(wrong))}$"):
        Point(**given)


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        ONE.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        del ONE.x
    with pytest.raises(dataclasses.FrozenInstanceError, match="'other'"):
        ONE.other = 2


def test_records_of_one_class_and_the_same_values_are_equal():
    assert Point(x=1, tags={"a": "b"}, hidden="secret") == ONE
    assert Point(x=2, tags={"a": "b"}, hidden="secret") != ONE
    assert Named(x=1, name="here") != Point(x=1)
    assert ONE != (1, 0, {"a": "b"}, "secret")


def test_hashes_are_equal_where_records_are():
    @record_class(frozen=True, kw_only=True, slots=True)
    class Key:
        name: str

    assert {Key(name="a"), Key(name="a"), Key(name="b")} == {Key(name="a"), Key(name="b")}


def test_repr_shows_all_but_what_is_hidden():
    assert repr(ONE) == "Point(x=1, y=0, tags={'a': 'b'})"


def pickled(record):
    return pickle.loads(pickle.dumps(record))  # noqa: S301 - ours


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_copies_are_equal(copied):
    named = Named(x=1, name="here", tags={"a": "b"})
    assert copied(named) == named
    assert copied(named) is not named


def test_dataclasses_functions_take_them():
    assert [field.name for field in dataclasses.fields(ONE)] == ["x", "y", "tags", "hidden"]
    assert dataclasses.replace(ONE, x=2).x == 2
    assert dataclasses.asdict(ONE) == {"x": 1, "y": 0, "tags": {"a": "b"}, "hidden": "secret"}


def test_signature_is_that_of_the_fields():
    assert str(inspect.signature(Point)) == (
        "(*, x: int, y: int = 0, tags: dict[str, str] = {}, hidden: str = '')"
    )
