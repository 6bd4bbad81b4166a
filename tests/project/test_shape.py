"""The sources keep a shape that can be read: how much a class is given, what it inherits, and who imports whom.

Counts of modules and lines are what `make gauges` reports: a bound on them made people put two nouns into one file.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

from tests.programs.gauges.shape import (
    PACKAGES,
    ancestors,
    constructors,
    shared_names,
    sources,
)

MODULES = sources()

ARGUMENTS_MAX = 7
ANCESTORS_MAX = 2

SCREENS = "helmr_console.screens"
"""A screen opens others and speaks to its app, which opens the first: Textual's way, and one thing to read."""


def test_a_constructor_takes_few_arguments() -> None:
    wide = {name: count for name, count in constructors(MODULES).items() if count > ARGUMENTS_MAX}
    assert wide == {}


def test_a_class_has_few_ancestors_of_ours() -> None:
    deep = {name: count for name, count in ancestors(MODULES).items() if count > ANCESTORS_MAX}
    assert deep == {}


def test_a_class_name_is_borne_by_one_class() -> None:
    """But for the value that plugs a feature into each of the three houses."""
    assert [*shared_names(MODULES)] == ["Feature"]


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports for type checkers and those in functions count too."""

    def place(module: str) -> str:
        is_screen = module == "helmr_console.app" or module.startswith(SCREENS)
        return SCREENS if is_screen else module

    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports: dict[str, set[str]] = {}
    for module in graph.modules:
        found = {place(other) for other in graph.find_modules_directly_imported_by(module)}
        imports.setdefault(place(module), set()).update(found - {place(module)})
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_a_modules_logger_stands_above_what_logs() -> None:
    """One that stands between two classes shows where two modules were put into one."""

    def is_logger(node: ast.stmt) -> bool:
        return isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "logger" for target in node.targets
        )

    late = []
    for module in MODULES:
        kinds = [
            "logger" if is_logger(node) else "body"
            for node in module.tree.body
            if is_logger(node)
            or isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        if "logger" in kinds[1:]:
            late.append(module.name)
    assert late == []
