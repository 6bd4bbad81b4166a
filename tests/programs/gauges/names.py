"""The names that a module's code holds, and the words of a name.

A name is an identifier (a class, a function, a variable, an attribute, an argument, an imported module) or a text that
is a path: words joined by dots, slashes or colons and without a blank, as `"helmr.cli.gate:app"`, `"grant.created"` and
`"/v1/schedules"` are. Prose, comments and docstrings hold no names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

_PATH = re.compile(r"[\w{}-]*(?:[./:][\w{}-]*)+")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def names(tree: ast.AST, *, paths: bool = True) -> Iterator[str]:
    """Every name in it, as often as it stands there.

    Args:
        paths: Texts that are paths count too.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if paths and isinstance(node.value, str) and _PATH.fullmatch(node.value):
                yield node.value
            continue
        for _, value in ast.iter_fields(node):
            if isinstance(value, str):
                yield value
            elif isinstance(value, list):
                yield from (one for one in value if isinstance(one, str))


@cache
def words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case: `WriteSchedule` and `write_schedule` have the same."""
    return tuple(word.lower() for word in _WORD.findall(name))
