"""What `help`, pydoc and an editor show of every public name."""

import ast
import inspect
import pydoc
import sys
from importlib import import_module
from itertools import pairwise

import pytest

import bufpool_workers as bp

MODULES = [
    "bufpool_workers",
    *(
        f"bufpool_workers.{name}"
        for name in (
            *("memory", "sealing", "metrics", "runtime", "testing"),
            *("futures", "dramatiq", "rq", "huey"),
        )
    ),
]
NAMES = [(module, name) for module in MODULES for name in import_module(module).__all__]


def strings_below(body):
    """Return the strings that stand below assignments, by the assigned name."""
    found = {}
    for line, below in pairwise(body):
        targets = {
            ast.AnnAssign: lambda line: [line.target],
            ast.Assign: lambda line: line.targets,
        }.get(type(line), lambda _: [])(line)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found |= {target.id: below.value.value for target in targets}
    return found


def constants_with_docstring():
    """Return the constants of all modules of the package that have a string below them."""
    found = set()
    for name in [name for name in sys.modules if name.startswith("bufpool_workers")]:
        module = sys.modules[name]
        if getattr(module, "__file__", "").endswith(".py"):
            found |= strings_below(ast.parse(inspect.getsource(module)).body).keys()
    return found


def undocumented(value, name):
    """Yield what has no docstring of its own: the name, or attributes of the class that it is."""
    if not inspect.isclass(value):
        if not (inspect.getdoc(value) if callable(value) else name in constants_with_docstring()):
            yield name
        return
    if not value.__doc__:
        yield name
    if issubclass(value, tuple):
        fields = set(value._fields)
        (tree,) = ast.parse(inspect.getsource(value)).body
        yield from (f"{name}.{field}" for field in fields - strings_below(tree.body).keys())
    else:
        fields = set()
    for base in value.__mro__:
        if base.__module__.startswith("bufpool_workers"):
            for attribute in vars(base).keys() - fields:
                if not attribute.startswith("_") and not has_docstring(value, attribute):
                    yield f"{name}.{attribute}"


def has_docstring(cls, attribute):
    value = inspect.getattr_static(cls, attribute)
    if isinstance(value, str):  # a class variable; those of subclasses are values of the base's
        bases = [base for base in cls.__mro__ if attribute in inspect.get_annotations(base)]
        (tree,) = ast.parse(inspect.getsource(bases[-1])).body
        return attribute in strings_below(tree.body)
    return bool(inspect.getdoc(value))


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_name_and_its_attributes_have_docstrings(module, name):
    assert list(undocumented(getattr(import_module(module), name), name)) == []


def test_fields_without_a_docstring_are_found():
    class Bare:
        __slots__ = ("field",)

    Bare.__module__ = "bufpool_workers.bare"
    assert list(undocumented(Bare, "Bare")) == ["Bare", "Bare.field"]


@pytest.mark.parametrize(
    ("cls", "attribute", "words"),
    [
        (bp.PoolStats, "held_bytes", "Bytes that the pool holds"),
        (bp.Settings, "trim_after_seconds", "Seconds after which idle memory"),
        (bp.Pools, "secure", "The pool of memory for credentials"),
        (bp.BufferPool, "max_bytes", "in bytes"),
    ],
)
def test_pydoc_shows_the_docstring_of_a_field(cls, attribute, words):
    shown = pydoc.plain(pydoc.render_doc(cls))
    assert words in shown[shown.index(f" |  {attribute}\n") :].split(" |  \n")[0]
