"""A copy of the gate's rules on an agent's machine, by which its hook asks when the runtime can't be asked.

The runtime sends it with an answer when the hook has another one; `helmr.cli.rules_hook` keeps it beside the hook's
key. It can only make the client ask: an old copy, or one that the agent has changed, allows nothing.

Invariants: S-137.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helmr.errors import HelmrError
from helmr.gate import GateAction, GatedCall
from helmr.gate.claude_code import GateDecision, GateVerdict, call_of_event
from helmr.matching import OF_GATE, DeclaredRule, DeclaredRules, rules_of

COPY, HASH = "rules", "hash"
"""Keys: of an answer that brings a copy, and of the copy, beside its rules."""


def encode_rules(rules: DeclaredRules) -> dict[str, Any]:
    """The copy of these rules, as JSON."""
    return {HASH: rules.hash, "rule": [_table(rule) for rule in rules.rules]}


def _table(rule: DeclaredRule) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": rule.name,
        "tool": list(rule.tool),
        "client": rule.client,
        "matches": {name: list(globs) for name, globs in rule.matches.items()},
        "action": rule.action.value,
        **rule.restriction,
    }
    said = {"folder": rule.folder, "reason": rule.reason}
    return found | {name: value for name, value in said.items() if value}


def decode_rules(copy: Any) -> DeclaredRules:
    """The rules of a copy.

    Raises:
        HelmrError: It is none.
    """
    table = copy.get("rule") if isinstance(copy, dict) else None
    return rules_of({"rule": table}, "the copy of the rules", keys=OF_GATE)


def names(rules: DeclaredRules, call: GatedCall) -> DeclaredRule | None:
    """The rule that has people or no one decide this call; None if the client's own mode decides it."""
    rule = rules.first(call)
    return rule if rule is not None and rule.action is not GateAction.ALLOW else None


def asks(rule: DeclaredRule) -> GateDecision:
    """Have the client ask, by which the call comes to the inbox."""
    return GateDecision(GateVerdict.ASK, f"The rule {rule.name!r} of Helmr has a person decide it.")


def by_copy(copy: Any, event: Mapping[str, Any], client: str, why: str) -> GateDecision:
    """Decide without the runtime: `ask` for a call that the copy names; without a copy `ask` for every call.

    Args:
        copy: The stored copy; None if there is none.
        event: The event that the client gave its hook.
        client: Name of the client.
        why: Reason why the runtime can't be asked.
    """
    try:
        rules, call = decode_rules(copy), call_of_event(event, client)
    except HelmrError:
        return GateDecision(GateVerdict.ASK, f"No rules are known here, and {why}")
    rule = names(rules, call)
    if rule is None:
        return GateDecision(GateVerdict.NONE)
    return GateDecision(GateVerdict.ASK, f"The rule {rule.name!r} of Helmr names it, and {why}")
