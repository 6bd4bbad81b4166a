"""A tree of paths finds the operation that a path names, part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helmr.wire.operation import PAGE, Operation
from helmr_runtime.http.served_operation import Authenticator, Handler, ServedOperation
from helmr_runtime.service import Service


@dataclass(slots=True)
class PathPlace:
    """A path and its operations.

    Attributes:
        path: The declared path, such as `/v1/waits/{wait_id}`.
        by_method: The operations by method.
        public_methods: The methods that public tokens may call.
    """

    path: str
    by_method: dict[str, ServedOperation] = field(default_factory=dict)
    public_methods: tuple[str, ...] = ()


@dataclass(slots=True)
class _Node:
    """A node of the tree; the next part of a path is one of `fixed`, or the value of a parameter."""

    fixed: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    place: PathPlace | None = None


class Paths:
    """The tree of paths and their operations."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, operation: ServedOperation) -> None:
        """Add an operation to the tree."""
        row, node = operation.row, self._root
        for part in _parts(row.path):
            node = _next(node, part)
        if node.place is None:
            node.place = PathPlace(row.path)
        assert node.place.path == row.path
        node.place.by_method[operation.method] = operation
        if row.scope is not None:
            node.place.public_methods += (row.method,)

    def find(self, path: str) -> tuple[PathPlace, tuple[str, ...]] | None:
        """The place that a decoded path names, and the values of its parameters; None if it names none."""
        node = self._root
        values: list[str] = []
        for part in _parts(path):
            after = node.fixed.get(part)
            if after is None:
                if node.parameter is None or not part:
                    return None
                after = node.parameter
                values.append(part)
            node = after
        return (node.place, tuple(values)) if node.place is not None else None


def served(
    rows: Iterable[Operation[Any]],
    service: Service,
    handlers: Mapping[str, Handler],
    authenticator: Authenticator,
) -> Paths:
    """Build the tree of all rows; pages also serve HEAD."""
    paths = Paths()
    for row in rows:
        handler = handlers.get(row.name)
        paths.add(ServedOperation(row, service, handler, authenticator))
        if row.reply is PAGE:
            paths.add(ServedOperation(row, service, handler, authenticator, is_head=True))
    return paths


def _parts(path: str) -> list[str]:
    return path.split("/")[1:]


def _next(node: _Node, part: str) -> _Node:
    if not part.startswith("{"):
        return node.fixed.setdefault(part, _Node())
    if node.parameter is None:
        node.parameter = _Node()
    return node.parameter
