"""Standing grants: what a person has allowed for a while in one agent's session, so that they are not asked again.

A grant names the client, the agent's session, the key that asks for it, one tool, and globs for its arguments. Rules
come first: a rule that denies still denies, and a rule that asks does so only for calls that no grant covers.

Invariants: S-107 (a grant is a thing of its own: no answer implies one).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from glob import escape
from typing import Any

from helmr.errors import BadRequest
from helmr.gate import GateAction, GatedCall
from helmr.gate.grant_scope import Globs, GrantScope
from helmr.matching import GLOB_MAX, DeclaredRule

VALID_FOR = timedelta(hours=8)
VALID_FOR_MAX = timedelta(days=7)
"""Lifetimes of a grant: a working day by default, a week at most."""

ARGUMENTS_MAX = 20
"""Arguments that a grant may name."""

TELLING = ("command", "file_path", "notebook_path", "path", "url")
"""Arguments that say what a call touches; a grant names those of its call unless it says otherwise."""


def covers(scope: GrantScope, call: GatedCall, asker: str) -> bool:
    """True if a grant allows this call. Like a rule, it allows only a single shell command."""
    if (scope.client, scope.agent, scope.asker) != (call.client, call.agent, asker):
        return False
    return scope.tool == call.tool and _rule_of(scope.matches).matches_call(call)


def _rule_of(matches: Mapping[str, Globs]) -> DeclaredRule:
    return DeclaredRule("", GateAction.ALLOW, matches=matches)


def asker_of(principal_type: str, principal_id: str | None) -> str:
    """Names who asks for an agent, `api_key:key_…`."""
    return f"{principal_type}:{principal_id or ''}"


def exact_matches(tool_input: Mapping[str, Any]) -> dict[str, Globs]:
    """Globs that only these telling arguments match."""
    return {
        name: (escape(value.strip()),)
        for name in TELLING
        if isinstance(value := tool_input.get(name), str) and value.strip()
    }


def check_matches(found: Mapping[str, str | list[str]]) -> dict[str, Globs]:
    """The globs that a request gives.

    Raises:
        BadRequest: One can't be used.
    """
    if len(found) > ARGUMENTS_MAX:
        raise BadRequest(f"matches: a grant names at most {ARGUMENTS_MAX} arguments")
    globs = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in found.items()}
    for name, some in globs.items():
        if not name or not 1 <= len(some) <= ARGUMENTS_MAX:
            raise BadRequest(f"matches.{name}: name an argument, and one to {ARGUMENTS_MAX} globs")
        if any(len(one) > GLOB_MAX for one in some):
            raise BadRequest(f"matches.{name}: a glob has at most {GLOB_MAX} characters")
    return globs


def matches_text(matches: Mapping[str, Globs | list[str]]) -> str:
    """Describe a grant's globs for people: `command = git push*`."""
    if not matches:
        return "with any arguments"
    return ", ".join(f"{name} = {' or '.join(globs)}" for name, globs in matches.items())
