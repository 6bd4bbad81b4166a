"""The scope of a standing grant, as its entry has it. Pure: `helmr.gate.grants` says which calls it covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Globs = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GrantScope:
    """Scope of a grant.

    Attributes:
        client: Program that asks.
        agent: Session of the agent.
        asker: Principal that asks for the agent, as `asker_of` names it.
        tool: Name of the tool.
        matches: Globs by argument, one of which must match; empty allows any arguments.
    """

    client: str
    agent: str
    asker: str
    tool: str
    matches: Mapping[str, Globs] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON for an entry."""
        matches = {name: list(globs) for name, globs in self.matches.items()}
        return {
            "client": self.client,
            "agent": self.agent,
            "asker": self.asker,
            "tool": self.tool,
            "matches": matches,
        }

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> GrantScope:
        """The scope that `to_json` wrote."""
        matches = {name: tuple(globs) for name, globs in parts["matches"].items()}
        return cls(parts["client"], parts["agent"], parts["asker"], parts["tool"], matches)
