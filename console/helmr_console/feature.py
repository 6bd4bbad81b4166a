"""A feature as the console knows it: what can be done, lists of the System area, how its entries look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr import feature
from helmr.client.aio import AsyncClient
from helmr_console import actions, entry_lines
from helmr_console.actions import Action
from helmr_console.entry_lines import EntryLook


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemList:
    """A list that the System area opens.

    Attributes:
        name: What is read of it stands under that in the store.
        action: Opens it.
        opens: What that opens, in a line of the help.
        read: Its things by name, from the gateway.
        line: All of them in a few words, and the role of that.
        screen: Shows them, as `module:class`; imported when it is opened.
    """

    name: str
    action: str
    opens: str
    read: Callable[[AsyncClient], Awaitable[Mapping[str, Any]]]
    line: Callable[[Mapping[str, Any], datetime], tuple[str, str]]
    screen: str

    @property
    def key(self) -> str:
        """Of its action."""
        return actions.BY_ID[self.action].key_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What a feature adds to the console.

    Attributes:
        face: The same feature in `helmr`.
        actions: What can be done with its things, and what opens its lists.
        lists: Of the System area.
        entries: How its entries look, by kind.
    """

    face: feature.Feature
    actions: tuple[Action, ...] = ()
    lists: tuple[SystemList, ...] = ()
    entries: Mapping[str, EntryLook] = field(default_factory=dict)


_IN_USE: list[Feature] = []


def use(features: Iterable[Feature]) -> None:
    """Have these in the console, before a screen is imported: its keys are made of the table of actions."""
    for one in features:
        actions.add(one.actions)
        entry_lines.add(one.entries)
        _IN_USE.append(one)


def lists_in_use() -> list[SystemList]:
    """The lists of all features."""
    return [found for one in _IN_USE for found in one.lists]
