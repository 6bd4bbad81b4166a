"""Modules and classes are of a size that is read in one sitting, and none imports itself by way of others."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

MODULE_LINES_MAX = 500
CLASS_LINES_MAX = 350

PACKAGES = {"helmr": ".", "helmr_runtime": "runtime", "helmr_console": "console"}

SCREENS = "helmr_console.screens"
"""A screen opens others and speaks to its app, which opens the first: Textual's way, and one thing to read."""


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_classes_have_a_readable_size(project_root: Path, package: str) -> None:
    large = []
    for path in sorted((project_root / PACKAGES[package] / package).rglob("*.py")):
        name, text = str(path.relative_to(project_root)), path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MODULE_LINES_MAX:
            large.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                if lines > CLASS_LINES_MAX:
                    large.append(f"{name}: class {node.name} has {lines} lines")
    assert large == []


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
