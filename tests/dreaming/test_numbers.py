"""Count the tuned numbers of dreams: each one can be wrong for some clip."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import cloudconv.dreaming

ROOT = Path(cloudconv.dreaming.__file__).parent
MOST = {"material": 51, "methods": 59, "vitals": 46, "": 9}
"""The greatest count in each folder; the empty name stands for the modules beside the folders."""
PLAIN = {0, 0.5, 1, 2, 255}
"""Numbers in functions that follow from a formula or a format, and are not tuned."""
GUARDS = 0.002, 1000
"""Smaller floats in functions only avoid a division by zero; larger ones stand for infinity."""


def numbers(tree: ast.AST) -> Iterator[float]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            assert isinstance(node.value, (int, float))
            yield node.value


def constants(tree: ast.Module) -> int:
    """Return the number of upper-case names of a module whose value contains a number."""
    count = 0
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and [*numbers(node.value)]:
            goals = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = chain.from_iterable(g.elts if isinstance(g, ast.Tuple) else [g] for g in goals)
            count += sum(isinstance(n, ast.Name) and n.id.lstrip("_").isupper() for n in names)
    return count


def hidden(tree: ast.Module) -> int:
    """Return the number of tuned numbers in defaults, fields of classes, and functions."""
    found: set[tuple[int, int]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            given = [value for value in (*node.args.defaults, *node.args.kw_defaults) if value]
            inside = [n for part in node.body for n in ast.walk(part)]
        elif isinstance(node, ast.ClassDef):
            fields = [n for n in node.body if isinstance(n, (ast.Assign, ast.AnnAssign))]
            given, inside = [n.value for n in fields if n.value], []
        else:
            continue
        for value in chain.from_iterable(map(ast.walk, given)):
            if isinstance(value, ast.Constant) and type(value.value) in (int, float):
                found |= {place(value)} if value.value not in PLAIN else set()
        for value in inside:
            if isinstance(value, ast.Constant) and type(value.value) is float:
                tuned = value.value not in PLAIN and GUARDS[0] <= value.value < GUARDS[1]
                found |= {place(value)} if tuned else set()
    return len(found)


def place(value: ast.expr) -> tuple[int, int]:
    return value.lineno, value.col_offset


def tuned(text: str) -> int:
    tree = ast.parse(text)
    return constants(tree) + hidden(tree)


@pytest.mark.parametrize("folder", MOST)
def test_dreams_have_few_tuned_numbers(folder: str) -> None:
    files = (ROOT / folder).rglob("*.py") if folder else ROOT.glob("*.py")
    assert sum(tuned(file.read_text("utf-8")) for file in files) <= MOST[folder]


def test_a_number_that_moves_still_counts() -> None:
    assert tuned("_A, _B = 3, 0.2\n_C = {'a': 1.5}\nname = 4") == 3
    assert tuned("def f(x=0.3, y=1):\n    return 0.7 * x + 2 * y") == 2
    assert tuned("class A:\n    limit = 0.3\n    count: int = 0") == 1
    assert tuned("def f(x):\n    return x / max(x.sum(), 1e-6) / 255") == 0
