"""How docstrings begin: the share of those without a head, which start with a word that asks.

*Headless* is a docstring whose first word is one of `ASKING`, in any case: "What a hook answers" has no subject that
does something, "Reply to a hook" and "The reply to a hook" have. Docstrings of modules, classes, functions and
properties are told apart; a property is a function with a decorator that is called `property` or `cached_property`, or
ends in `.setter`. Texts behind attributes are not docstrings of Python's, and are not counted.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.programs.gauges.shape import Source, sources

ASKING = frozenset({"what", "whether", "who", "how", "where", "which", "when", "why"})
KINDS = ("module", "class", "function", "property")

_FIRST = re.compile(r"[A-Za-z]+")
_PROPERTIES = {"property", "cached_property", "setter"}


@dataclass(frozen=True)
class Docstring:
    """A docstring, and what it is of."""

    kind: str
    place: str
    text: str

    @property
    def is_headless(self) -> bool:
        """True if it begins with a word that asks."""
        first = _FIRST.search(self.text)
        return first is not None and first[0].lower() in ASKING


def docstrings(module: Source) -> Iterator[Docstring]:
    """All that a module has."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text:
            line = getattr(node, "lineno", 1)
            yield Docstring(_kind(node), f"{module.name}:{line}", text)


def _kind(node: ast.AST) -> str:
    if isinstance(node, ast.Module):
        return "module"
    if isinstance(node, ast.ClassDef):
        return "class"
    decorators = getattr(node, "decorator_list", [])
    called = {getattr(one, "attr", getattr(one, "id", "")) for one in decorators}
    return "property" if called & _PROPERTIES else "function"


def headless(modules: Sequence[Source]) -> list[Docstring]:
    """Those without a head."""
    return [one for module in modules for one in docstrings(module) if one.is_headless]


def report(*, with_places: bool = False) -> str:
    """The shares by kind, and with `with_places` each such docstring's first line."""
    modules = sources()
    every = Counter(one.kind for module in modules for one in docstrings(module))
    found = headless(modules)
    bad = Counter(one.kind for one in found)
    lines = [
        f"{kind:<10}{bad[kind]:>6} of {every[kind]:>5}  {100 * bad[kind] / every[kind]:.1f} %"
        for kind in KINDS
    ]
    share = 100 * len(found) / every.total()
    lines.append(f"{'all':<10}{len(found):>6} of {every.total():>5}  {share:.1f} %")
    if with_places:
        lines += [f"    {one.place}: {one.text.splitlines()[0]}" for one in found]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{report(with_places='--places' in sys.argv)}\n")
