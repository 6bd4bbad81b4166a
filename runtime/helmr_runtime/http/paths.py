"""Which route a path is, part by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from helmr.operations import OPERATIONS
from helmr_runtime.http.route import ServedRoute


@dataclass(slots=True)
class Place:
    """A path and its routes.

    Attributes:
        path: As declared, `/v1/waits/{wait_id}`.
        routes: By method.
        public_methods: Those that public tokens may call.
    """

    path: str
    routes: dict[str, ServedRoute] = field(default_factory=dict)
    public_methods: tuple[str, ...] = ()


@dataclass(slots=True)
class _Node:
    """Where a path has got to; a part behind it is one of `fixed`, or the value of a parameter."""

    fixed: dict[str, _Node] = field(default_factory=dict)
    parameter: tuple[str, _Node] | None = None
    place: Place | None = None


class Paths:
    """All of them."""

    def __init__(self, routes: Iterable[ServedRoute]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for part in _parts(route.path):
                node = _next(node, part)
            if node.place is None:
                public = tuple(
                    each.method
                    for each in OPERATIONS
                    if each.path == route.path and each.scope is not None
                )
                node.place = Place(route.path, public_methods=public)
            assert node.place.path == route.path
            node.place.routes[route.method] = route

    def find(self, path: str) -> tuple[Place, dict[str, str]] | None:
        """The place that a decoded path names, and the values of its parameters; None if it names none."""
        node = self._root
        values = {}
        for part in _parts(path):
            after = node.fixed.get(part)
            if after is None:
                if node.parameter is None or not part:
                    return None
                name, after = node.parameter
                values[name] = part
            node = after
        return (node.place, values) if node.place is not None else None


def _parts(path: str) -> list[str]:
    return path.split("/")[1:]


def _next(node: _Node, part: str) -> _Node:
    if not part.startswith("{"):
        return node.fixed.setdefault(part, _Node())
    if node.parameter is None:
        node.parameter = (part.strip("{}"), _Node())
    return node.parameter[1]
