"""A feature as `helmr` knows it: operations, commands, a part of the clients, words, a page.

A feature is a folder in each package that it needs (`helmr.features.NAME`, `helmr_runtime.features.NAME`,
`helmr_console.features.NAME`), with one `Feature` that plugs it in. Parts are named as `module:name` and imported at
their use, so listing commands loads no client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from helmr.wire.operation import Operation, named


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """Parts that a feature adds to `helmr`.

    Attributes:
        name: Name of its folders and its part of the service.
        about: Its purpose, in one line; its page's line in the menu of the docs too, unless mkdocs.yml has one.
        title: Its heading on pages of the docs; unless given, its name with a capital.
        operations: The module of its rows.
        errors: The module of its errors, if it has any of its own. It is loaded with the rows, so a client that has
            these finds the class of a code.
        commands: Groups of the command line by name, each as `module:app`.
        client: Its parts of the clients by noun: that of the awaited client and that of the blocking one, each as
            `module:class`.
        section: Checks its table of `helmr.toml`, which bears its name, as `module:function`: takes the table and the
            file's name, and raises UsageError.
        tasks: Names the modules of its built-in tasks, as `module:function`: takes that table, or None.
        words: Its words in the glossary, with their meanings.
        page: Its page in the docs.
    """

    name: str
    about: str = ""
    title: str = ""
    operations: str = ""
    errors: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)
    client: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    section: str = ""
    tasks: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    page: str = ""

    @property
    def heading(self) -> str:
        """Its heading on pages of the docs."""
        return self.title or self.name.capitalize()

    @property
    def rows(self) -> tuple[Operation[Any], ...]:
        """Its operations, each under its constant's name in lower case."""
        if self.errors:
            import_module(self.errors)
        return tuple(named(import_module(self.operations))) if self.operations else ()


def operations_of(features: Sequence[Feature]) -> tuple[Operation[Any], ...]:
    """Return the operations of these features, in their order."""
    return tuple(row for feature in features for row in feature.rows)
