"""Nothing is written without a permit: only the client that a permit hands out is asked to change something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

WRITES = frozenset(
    [
        *("amend", "answer", "assign", "cancel", "claim", "close", "complete", "create"),
        *("delete", "fork", "note", "pause", "release", "resume", "retry", "rewind", "run"),
        *("send", "start"),
    ]
)
NOUNS = frozenset(["notices", "runs", "schedules", "sessions", "tokens", "waits"])


def written(tree: ast.AST) -> Iterator[ast.expr]:
    """The clients whose nouns are asked to change something, `x` of `x.waits.answer`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in WRITES:
            of = (
                node.value.func.value
                if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
                else node.value
            )
            if isinstance(of, ast.Attribute) and of.attr in NOUNS:
                yield of.value


def test_only_a_permits_client_is_asked_to_change_something(project_root: Path) -> None:
    found = [
        ast.unparse(client)
        for path in sorted((project_root / "console").rglob("*.py"))
        for client in written(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(found) >= 10, "the console writes"
    assert set(found) <= {"permit.client", "given.client"}
