"""Claude Code's hooks: what they post, what they take as a decision, and the settings that put them there.

Codex has the same events, but hooks are commands only; `CODEX_HOOKS` has those that it runs.

The interactive client asks people by `PermissionRequest`, which has no id of the call; session, tool and input identify
it. In most modes, its first one included, the client decides calls itself and does not post that. So it asks the rules
by `PreToolUse` first, and a rule that names the call makes it ask people. The headless client (`claude -p`) asks people
by `PreToolUse`; "no decision" would let it decide alone, so there is always a decision.

Source: code.claude.com/docs/en/hooks; tried with `TRIED`.   Invariants: S-104, S-105, S-106, S-137.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from helmr.errors import BadRequest
from helmr.gate import CODEX, GatedCall

CLIENT = "claude-code"
TRIED = {CLIENT: "2.1.332", CODEX: "0.171.0"}
"""The versions of the clients that the long tests run."""

PLAN = "ExitPlanMode"
APPROVE, DECLINE = "approve", "decline"
"""Decisions of an answer, as for any tool call that a person approves."""

MARGIN_S = 10.0
"""Time between our answer and the client's timeout: a hook killed at its timeout lets the tool run."""

TIMEOUT_S = 600
"""Timeout of the hook that asks people, as `install` writes it."""

REPORT_TIMEOUT_S = 10
"""Timeout of the hooks that only report."""

RULES_TIMEOUT_S = 60
"""Timeout of the hook that asks the rules, which answers within 2 s; killed at this time it would let the tool run."""


class Mode(StrEnum):
    """Modes of the client."""

    INTERACTIVE = "interactive"
    HEADLESS = "headless"


class HookMode(StrEnum):
    """Modes of a command hook: that of its client, or the rules alone."""

    INTERACTIVE = Mode.INTERACTIVE.value
    HEADLESS = Mode.HEADLESS.value
    RULES = "rules"


class HookEvent(StrEnum):
    """Hook events that concern the gate."""

    PERMISSION_REQUEST = "PermissionRequest"
    PRE_TOOL_USE = "PreToolUse"
    POST_TOOL_USE = "PostToolUse"
    POST_TOOL_USE_FAILURE = "PostToolUseFailure"
    PERMISSION_DENIED = "PermissionDenied"
    STOP = "Stop"
    SESSION_END = "SessionEnd"


ASKS = frozenset({HookEvent.PERMISSION_REQUEST, HookEvent.PRE_TOOL_USE})
"""Events that want a decision."""


class GateVerdict(StrEnum):
    """Verdicts that the client gets."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"
    """The client asks, in whatever mode it is; only to `PreToolUse` of an interactive one."""
    DEFER = "defer"
    """The client ends and asks again when it is resumed; only for a headless one."""
    NONE = "none"
    """No decision: the client's own prompt shows; only for an interactive one."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """A verdict and its reason; `input`, if set, replaces the input that was asked for.

    `session_id` is the call's session, if a person has decided.
    """

    verdict: GateVerdict
    reason: str = ""
    input: Mapping[str, Any] | None = None
    session_id: str = ""

    @property
    def is_allowed(self) -> bool:
        """True if the call may be made."""
        return self.verdict is GateVerdict.ALLOW


WAITS = "This call waits for a person. Call it again, alone, without other calls beside it."
DECLINED = "A person declined this call."


def call_of_event(event: Mapping[str, Any], client: str = CLIENT) -> GatedCall:
    """The call that an event of a client is about.

    Raises:
        BadRequest: It lacks what names one.
    """
    session, tool, given = (event.get(one) for one in ("session_id", "tool_name", "tool_input"))
    if not isinstance(session, str) or not session:
        raise BadRequest("the event has no session_id", hint="Post what Claude Code gives a hook.")
    if not isinstance(tool, str) or not tool or not isinstance(given, dict):
        raise BadRequest("the event has no tool_name and tool_input")
    return GatedCall(
        client=client,
        agent=session,
        tool=tool,
        input=given,
        call_id=_text(event, "tool_use_id"),
        folder=_text(event, "cwd"),
        model=_text(event, "model"),
    )


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""


def decision_of(call: GatedCall, answer: Any) -> GateDecision:
    """Turn a person's answer into a decision for the client."""
    said = answer if isinstance(answer, Mapping) else {}
    reason = said.get("reason")
    why = reason.strip() if isinstance(reason, str) else ""
    questions = questions_of(call)
    if questions:
        answers = _answers(questions, said)
        if not answers:
            return GateDecision(GateVerdict.DENY, why or DECLINED)
        return GateDecision(GateVerdict.ALLOW, why, {**call.input, "answers": answers})
    if said.get("decision") != APPROVE:
        return GateDecision(GateVerdict.DENY, why or DECLINED)
    edited = said.get("arguments")
    changed = edited if isinstance(edited, dict) and edited != dict(call.input) else None
    if call.tool == PLAN:  # without an input the client goes on showing its own prompt
        changed = dict(call.input)
    return GateDecision(GateVerdict.ALLOW, why, changed)


def _answers(questions: list[dict[str, Any]], said: Mapping[str, Any]) -> dict[str, str]:
    """Return the chosen label by question; several are joined, as the client does it."""
    answers = {}
    for number, question in enumerate(questions):
        chosen = said.get(answer_key(number))
        parts = list(chosen) if isinstance(chosen, list) else [chosen]
        parts.append(said.get(other_key(number)) if labels_of(question) else None)
        texts = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
        if texts:
            answers[question["question"]] = ", ".join(texts)
    return answers


def questions_of(call: GatedCall) -> list[dict[str, Any]]:
    """Return the questions that the agent itself asks; empty for any other call, and for a malformed one."""
    found = call.input.get("questions") if call.tool == "AskUserQuestion" else None
    if not isinstance(found, list) or not found:
        return []
    texts = [one.get("question") if isinstance(one, dict) else None for one in found]
    are_whole = all(isinstance(text, str) and text for text in texts)
    return found if are_whole and len(set(texts)) == len(texts) else []


def asks_itself(call: GatedCall) -> bool:
    """True if the call is a question or a plan: no two are alike, so no grant can cover them."""
    return call.tool == PLAN or bool(questions_of(call))


def labels_of(question: Mapping[str, Any]) -> list[str]:
    """The answers that a question offers."""
    options = question.get("options")
    found = [one.get("label") for one in options or () if isinstance(one, dict)]
    return [label for label in found if isinstance(label, str) and label]


def answer_key(number: int) -> str:
    """The property of the answer to that question, counted from 0."""
    return f"q{number + 1}"


def other_key(number: int) -> str:
    """The property of an answer that the question does not offer."""
    return f"q{number + 1}_other"


def without_answer(mode: Mode, *, can_defer: bool = True) -> GateDecision:
    """Return the decision for a call whose time is nearly up (S-105)."""
    if mode is Mode.INTERACTIVE:
        return GateDecision(GateVerdict.NONE)
    return (
        GateDecision(GateVerdict.DEFER, WAITS)
        if can_defer
        else GateDecision(GateVerdict.DENY, WAITS)
    )


def unasked(mode: Mode | None, why: str) -> GateDecision:
    """Return the decision when no one can be asked (S-106): it never allows."""
    if mode is Mode.INTERACTIVE:
        return GateDecision(GateVerdict.NONE)
    return GateDecision(GateVerdict.DENY, f"Helmr can't ask a person about this call: {why}")


def reply(event: str, decision: GateDecision) -> dict[str, Any]:
    """The decision in the client's own form."""
    if decision.verdict is GateVerdict.NONE:
        return {}
    if event == HookEvent.PERMISSION_REQUEST:
        return _said(event, decision=_behavior(decision))
    said: dict[str, Any] = {"permissionDecision": decision.verdict.value}
    if decision.reason:
        said["permissionDecisionReason"] = decision.reason
    if decision.input is not None and decision.verdict is GateVerdict.ALLOW:
        said["updatedInput"] = dict(decision.input)
    return _said(event, **said)


def _behavior(decision: GateDecision) -> dict[str, Any]:
    if decision.verdict is not GateVerdict.ALLOW:
        return {"behavior": "deny", "message": decision.reason or DECLINED}
    changed = {"updatedInput": dict(decision.input)} if decision.input is not None else {}
    return {"behavior": "allow", **changed}


def _said(event: str, **said: Any) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": event, **said}}


# --- settings ---------------------------------------------------------------------------------------

KEY_VARIABLE = "HELMR_GATE_KEY"
"""Environment variable that holds the key by which hooks ask."""

PATH = "/v1/gate/claude-code"
COMMAND = "gate hook"
"""Identifies our command hooks in a settings file."""

AT_PROMPT = f"--mode {Mode.INTERACTIVE.value}"
"""Option of a command hook for a client with its own prompt."""

OF_RULES = f"--mode {HookMode.RULES.value}"
"""Option of that client's command hook that asks the rules alone."""

OR_DENIED = " || exit 2"
"""Suffix of the command that asks people: if the program is missing or killed, the call is denied."""

_ASKED = GateDecision(GateVerdict.ASK, "The rules of Helmr could not be asked about this call.")
OR_ASKED = f" || echo {shlex.quote(json.dumps(reply(HookEvent.PRE_TOOL_USE, _ASKED)))}"
"""Suffix of the command that asks the rules: if that fails, the client asks."""

_INTERACTIVE = {
    HookEvent.PRE_TOOL_USE: RULES_TIMEOUT_S,
    HookEvent.PERMISSION_REQUEST: TIMEOUT_S,
    HookEvent.POST_TOOL_USE: REPORT_TIMEOUT_S,
    HookEvent.POST_TOOL_USE_FAILURE: REPORT_TIMEOUT_S,
    HookEvent.PERMISSION_DENIED: REPORT_TIMEOUT_S,
    HookEvent.STOP: REPORT_TIMEOUT_S,
    HookEvent.SESSION_END: REPORT_TIMEOUT_S,
}
_HEADLESS = {
    HookEvent.PRE_TOOL_USE: TIMEOUT_S,
    HookEvent.POST_TOOL_USE: REPORT_TIMEOUT_S,
    HookEvent.POST_TOOL_USE_FAILURE: REPORT_TIMEOUT_S,
    HookEvent.SESSION_END: REPORT_TIMEOUT_S,
}
CODEX_END_S = 3
"""Longest time that Codex gives a hook at its end."""

CODEX_HOOKS = {
    Mode.INTERACTIVE: {
        HookEvent.PRE_TOOL_USE: TIMEOUT_S,
        HookEvent.PERMISSION_REQUEST: TIMEOUT_S,
        HookEvent.POST_TOOL_USE: REPORT_TIMEOUT_S,
        HookEvent.STOP: REPORT_TIMEOUT_S,
        HookEvent.SESSION_END: CODEX_END_S,
    },
    Mode.HEADLESS: {
        HookEvent.PRE_TOOL_USE: TIMEOUT_S,
        HookEvent.POST_TOOL_USE: REPORT_TIMEOUT_S,
        HookEvent.SESSION_END: CODEX_END_S,
    },
}
"""Codex can't be made to ask: its rules hook holds a call until a person has decided, and denies if it fails. At its
prompt no hook denies by exit code: if one fails, the client's own prompt shows, or its reviewer decides."""

_WITH_MATCHER = frozenset(HookEvent) - {HookEvent.STOP, HookEvent.SESSION_END}


def hooks_block(
    mode: Mode, url: str, key_file: str, *, program: str = "helmr", client: str = CLIENT
) -> dict[str, Any]:
    """The hooks that ask the gate.

    Args:
        mode: Mode of the client.
        url: URL of the runtime.
        key_file: File with the key of command hooks.
        program: Command with which the client calls `helmr`.
        client: Name of the client; hooks of Codex are commands.
    """
    is_headless = mode is Mode.HEADLESS
    events = hook_times(mode, client)
    where = f"--url {shlex.quote(url)} --key-file {shlex.quote(key_file)}"
    block = {}
    for event, timeout_s in events.items():
        hook: dict[str, Any]
        command = f"{program} {COMMAND} {client} --timeout {timeout_s}"
        if is_headless:
            behind = OR_DENIED if event in ASKS else ""
            hook = {"type": "command", "command": f"{command} {where}{behind}"}
        elif event is HookEvent.PRE_TOOL_USE:
            behind = OR_DENIED if client == CODEX else OR_ASKED
            hook = {"type": "command", "command": f"{command} {OF_RULES} {where}{behind}"}
        elif client == CODEX:
            hook = {"type": "command", "command": f"{command} {AT_PROMPT} {where}"}
        else:
            hook = {
                "type": "http",
                "url": f"{url.rstrip('/')}{PATH}?timeout_s={timeout_s}",
                "headers": {"Authorization": f"Bearer ${KEY_VARIABLE}"},
                "allowedEnvVars": [KEY_VARIABLE],
            }
        matcher = {"matcher": "*"} if event in _WITH_MATCHER else {}
        block[event.value] = [{**matcher, "hooks": [{**hook, "timeout": timeout_s}]}]
    return block


def hook_times(mode: Mode, client: str = CLIENT) -> Mapping[HookEvent, int]:
    """The events that hooks of a client in this mode are for, and the timeout of each."""
    if client == CODEX:
        return CODEX_HOOKS[mode]
    return _HEADLESS if mode is Mode.HEADLESS else _INTERACTIVE


def is_ours(hook: Any) -> bool:
    """True if a hook in a settings file asks the gate."""
    if not isinstance(hook, dict):
        return False
    url, command = hook.get("url"), hook.get("command")
    by_url = isinstance(url, str) and url.partition("?")[0].endswith(PATH)
    return by_url or (isinstance(command, str) and COMMAND in command)


def mode_of(hook: Mapping[str, Any]) -> Mode:
    """Return the mode of one of our hooks."""
    command = str(hook.get("command"))
    at_prompt = hook.get("type") == "http" or AT_PROMPT in command or OF_RULES in command
    return Mode.INTERACTIVE if at_prompt else Mode.HEADLESS


def without_hooks(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without our hooks; everything else as it is."""
    hooks = settings.get("hooks")
    if not isinstance(hooks, dict):
        return dict(settings)
    kept: dict[str, Any] = {}
    for event, groups in hooks.items():
        if not isinstance(groups, list):
            kept[event] = groups
            continue
        left = [group for group in map(_without_ours, groups) if group is not None]
        if left or not groups:
            kept[event] = left
    rest = {name: value for name, value in settings.items() if name != "hooks"}
    return {**rest, "hooks": kept} if kept or not hooks else rest


def _without_ours(group: Any) -> Any:
    found = group.get("hooks") if isinstance(group, dict) else None
    if not isinstance(found, list) or not any(map(is_ours, found)):
        return group
    left = [one for one in found if not is_ours(one)]
    return {**group, "hooks": left} if left else None


def with_hooks(settings: Mapping[str, Any], block: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with these hooks instead of ours that they have, behind everyone else's."""
    cleared = without_hooks(settings)
    hooks = dict(cleared.get("hooks") or {})
    for event, groups in block.items():
        hooks[event] = [*(hooks.get(event) or []), *groups]
    return {**cleared, "hooks": hooks}


def installed(settings: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Our hooks in the settings, by event."""
    hooks = settings.get("hooks")
    found: dict[str, list[dict[str, Any]]] = {}
    for event, groups in hooks.items() if isinstance(hooks, dict) else ():
        for group in groups if isinstance(groups, list) else ():
            inside = group.get("hooks") if isinstance(group, dict) else None
            ours = [one for one in inside or () if is_ours(one)]
            if ours:
                found.setdefault(event, []).extend(ours)
    return found


def settings_text(settings: Mapping[str, Any]) -> str:
    """Format settings as the client does."""
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
