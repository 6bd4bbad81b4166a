"""The way to the screens of the gate."""

from __future__ import annotations

from tests.console.flow.steps import FeatureWalk

WALK = FeatureWalk(
    steps=(
        ("g", "GrantsScreen", "Nothing is granted"),
        ("escape", "SystemScreen", "Runtime"),
        ("o", "UnknownOutcomesScreen", "approved call is known"),
        ("escape", "SystemScreen", "Runtime"),
    ),
    elsewhere=frozenset(
        {"GrantScreen"}
    ),  # needs an agent's call: tests/console/flow/test_granting.py
)
