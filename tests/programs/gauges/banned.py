"""Names that hold a word which the docs do not use: `AskAnew` holds `anew`.

The words are those of `tests/docs/test_words.py`, looked for in the words of a name as in prose. In the packages every
name counts; in `tests` those of classes, functions and modules.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.docs.test_words import OLD_NAMES, met
from tests.programs.gauges.names import names, words
from tests.programs.gauges.shape import ROOT, parsed, sources

KEPT = {"AskAnew"}
"""Public names, which stay beside today's."""


@cache
def holds(name: str) -> tuple[str, ...]:
    """What is wrong with a name, and what to say instead."""
    return () if name in KEPT else tuple(met(" ".join(words(name))))


def in_sources() -> dict[str, list[str]]:
    """Each such name of the packages, and where it stands."""
    found: dict[str, list[str]] = {}
    for module in sources():
        if module.path.name == OLD_NAMES:
            continue
        for name in sorted({*names(module.tree, paths=False), module.path.stem}):
            if holds(name):
                found.setdefault(name, []).append(module.name)
    return found


def in_tests() -> dict[str, list[str]]:
    """Each such name of a test, a function, a class or a module below `tests`."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name in {path.stem, *_defined(path)}:
            if holds(name):
                found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


def _defined(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def report(*, with_tests: bool = False) -> str:
    """The names in the packages, how many there are in tests, and with `with_tests` those too."""
    ours, others = in_sources(), in_tests()
    lines = [f"packages: {len(ours)}", *_lines(ours), f"tests: {len(others)}"]
    return "\n".join([*lines, *(_lines(others) if with_tests else [])])


def _lines(found: dict[str, list[str]]) -> list[str]:
    return [
        f"    {name} ({', '.join(places)}): {holds(name)[0]}"
        for name, places in sorted(found.items())
    ]


if __name__ == "__main__":
    sys.stdout.write(f"{report(with_tests='--tests' in sys.argv)}\n")
