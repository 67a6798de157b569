"""Native functions and classes show themselves as Python's own: help, signatures, names, reprs."""

import ast
import functools
import inspect
import sys
from pathlib import Path

import pytest

import bufpool_workers as bp
from bufpool_workers import memory
from bufpool_workers.memory import _core, _keystream, _mapping
from tests.memory.pools import BARE_PACKAGE, make_pool, run_script

PROTOCOL = {"__buffer__", "__release_buffer__"}  # Python shows it from 3.12 on


def definitions(module):
    """Yield (name, node, object) of all that the module's stub defines; the last overload."""
    native = Path(module.__file__)
    stub = native.with_name(f"{native.name.partition('.')[0]}.pyi")

    def walk(body, owner, prefix):
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                if node.name in PROTOCOL and sys.version_info < (3, 12):
                    continue
                found = getattr(owner, node.name)
                yield prefix + node.name, node, found
                if isinstance(node, ast.ClassDef):
                    yield from walk(node.body, found, f"{node.name}.")

    yield from walk(ast.parse(stub.read_text(encoding="utf-8")).body, module, "")


ALL = [
    pytest.param(*found, id=f"{module.__name__}.{found[0]}")
    for module in (_core, _keystream, _mapping)
    for found in definitions(module)
]


@pytest.mark.parametrize(("name", "node", "found"), ALL)
def test_docstring_is_that_of_the_stub(name, node, found):
    public = name.partition(".")[0] in bp.__all__
    if not public or "__" in name or inspect.getdoc(found) is None:
        assert ast.get_docstring(node) is None
    else:
        assert inspect.getdoc(found) == ast.get_docstring(node)


def test_public_functions_and_methods_have_docstrings():
    for name, _, found in definitions(_core):
        if name.partition(".")[0] in bp.__all__ and "__" not in name and callable(found):
            assert inspect.getdoc(found), name


@pytest.mark.parametrize("public", [bp.Buffer, bp.BufferPool])
def test_stub_leaves_nothing_out(public):
    stubbed = {name for name, *_ in definitions(_core)}
    named = {name for name in vars(public) if not name.endswith("_cython__")}
    # those of every object; what is there to refuse; and the other half of one that is named
    named -= {*dir(object), "__delitem__", "__radd__", "__setstate__", "__pyx_vtable__"}
    assert {f"{public.__name__}.{name}" for name in named} <= stubbed


def parameters(node):
    """Return the parameters of a stub's function, without `self`'s kind and annotations."""
    namespace = {}
    node = ast.parse(ast.unparse(node)).body[0]
    for argument in ast.walk(node.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    node.returns, node.decorator_list = None, []
    exec(ast.unparse(node), namespace)  # noqa: S102 - our own stub
    return [
        p.replace(kind=p.POSITIONAL_ONLY) if p.name == "self" else p
        for p in inspect.signature(namespace[node.name]).parameters.values()
    ]


@pytest.mark.parametrize(
    ("name", "node", "found"),
    [p for p in ALL if inspect.isroutine(p.values[2]) and "__" not in p.values[0]],
)
def test_signature_is_that_of_the_stub(name, node, found):
    assert list(inspect.signature(found).parameters.values()) == parameters(node)


def test_signature_of_a_pool_is_that_of_its_constructor_in_the_stub():
    (node,) = [node for name, node, _ in definitions(_core) if name == "BufferPool.__init__"]
    assert list(inspect.signature(bp.BufferPool).parameters.values()) == parameters(node)[1:]


@pytest.mark.parametrize("lend", [bp.buffer, bp.secure_buffer, bp.random_buffer])
@pytest.mark.usefixtures("process_pools")
def test_size_may_be_a_keyword(lend):
    for call in (lend, functools.partial(lend), lambda **size: lend(**size)):
        with call(nbytes=10) as buffer:
            assert len(buffer) == 10
    for arguments, keywords in [
        ((), {}),
        ((1, 2), {}),
        ((1,), {"nbytes": 2}),
        ((), {"size": 2}),
        ((), {"nbytes": 2, "size": 2}),
    ]:
        with pytest.raises(TypeError):
            lend(*arguments, **keywords)


def test_public_names_are_those_of_the_package():
    for public in (bp.Buffer, bp.BufferPool):
        assert f"{public.__module__}.{public.__qualname__}" == f"bufpool_workers.{public.__name__}"
    stubbed = {name for module in (_core, _keystream, _mapping) for name, *_ in definitions(module)}
    native = {
        name
        for name in memory.__all__
        if inspect.isbuiltin(found := getattr(memory, name)) or found in {bp.Buffer, bp.BufferPool}
    }
    assert native <= stubbed


def test_repr_of_a_pool_says_what_it_holds():
    pool = make_pool("secure")
    assert repr(pool) == "<bufpool_workers.BufferPool, secure, unused>"
    with pool.acquire(64):
        assert repr(pool) == (
            "<bufpool_workers.BufferPool, secure, 1 in use, 31 idle, 65536 of 1048576 bytes>"
        )
    pool.close()
    assert repr(pool) == "<bufpool_workers.BufferPool, secure, closed>"


def test_repr_of_pools_names_each_and_prepares_none():
    prepared = []
    pools = bp.Pools(bp.Settings(), prepare=prepared.append)
    for kind in ("regular", "secure", "random"):
        assert f"{kind}=<bufpool_workers.BufferPool, {kind}, unused>" in repr(pools)
    assert prepared == []


def test_counters_that_differ_from_those_of_the_stats_end_the_import():
    run_script(
        BARE_PACKAGE
        + """
from bufpool_workers import pool_stats
pool_stats.FIELDS += ("made_up",)
try:
    from bufpool_workers import memory
except ImportError as error:
    assert "they differ in ['made_up']" in str(error), error
else:
    raise SystemExit("imported")
"""
    )
