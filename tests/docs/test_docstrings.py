"""Docstrings of functions open with a verb that says what the function does."""

import ast
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

OPENINGS = {"Give", "Gives", "Let", "Have", "Say", "Says", "Whether", "What", "Where", "How"}
FILES = [
    path
    for folder in ("bufpool_workers", "tasks", "tests")
    for pattern in ("*.py", "*.pyi")
    for path in sorted((CHECKOUT / folder).rglob(pattern))
]
FOLDERS = sorted({path.parent.relative_to(CHECKOUT) for path in FILES})


def opening(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    words = (ast.get_docstring(function) or "").split()
    return words[0] if words else ""


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_functions_say_what_they_do(folder: Path):
    vague = [
        f"{path}:{node.lineno}: {opening(node)}"
        for path in FILES
        if path.parent == CHECKOUT / folder
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and opening(node) in OPENINGS
    ]
    assert vague == []
