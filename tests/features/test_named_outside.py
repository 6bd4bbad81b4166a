"""A feature is named by code in its folders: outside stands what users write themselves, and the wire's vocabulary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from helmr.feature import Feature
from helmr.features import FEATURES
from tests.programs.gauges.shape import sources

FILES_MAX = 2
"""Of schedules: `@task(schedule=…)` and `Harness(schedules=True)`."""

SHARED = ("helmr/errors/", "helmr/models/", "helmr/features/__init__.py")
"""Errors and models are the wire's; the last lists features for type checkers."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def words_of(name: str) -> set[str]:
    """The words of a name in lower case: of `WriteSchedule` they are `write` and `schedule`."""
    return {word.lower() for word in _WORD.findall(name)}


def names_in(tree: ast.AST) -> Iterator[str]:
    """Every identifier, and every text that is a path or a route; no prose."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and re.fullmatch(
                r"[\w.:/{}-]*[.:/][\w.:/{}-]*", node.value
            ):
                yield node.value
            continue
        for _, value in ast.iter_fields(node):
            if isinstance(value, str):
                yield value


@pytest.mark.parametrize("feature", FEATURES, ids=lambda one: one.name)
def test_few_files_outside_its_folders_name_it(feature: Feature) -> None:
    own = {feature.name, *feature.words}
    outside = [
        module.name
        for module in sources()
        if f"/features/{feature.name}/" not in module.name
        if not module.name.startswith(SHARED)
        if any(own & words_of(name) for name in names_in(module.tree))
    ]
    assert len(outside) <= FILES_MAX, outside
