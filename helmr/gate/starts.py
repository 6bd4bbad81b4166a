"""The mode in which an agent's client starts, as its settings say it, and what the gate does not see there. Pure.

Source: code.claude.com/docs/en/permission-modes; seen with the versions that `TRIED` names.   Invariants: S-137.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from helmr.gate import CODEX
from helmr.gate.claude_code import CLIENT, TRIED, HookEvent, Mode, hook_times

AUTO_SINCE = (2, 1, 283)
"""From this version on Claude Code starts in auto mode if nothing says otherwise."""


class StartMode(StrEnum):
    """Permission modes of clients; the first six are Claude Code's own names."""

    AUTO = "auto"
    DEFAULT = "default"
    ACCEPT_EDITS = "acceptEdits"
    PLAN = "plan"
    BYPASS = "bypassPermissions"
    DONT_ASK = "dontAsk"
    ON_REQUEST = "on-request"
    NEVER = "never"
    REVIEWED = "auto_review"


_BY_RULES = "only what a rule names, and the agent's own questions, come to the inbox: "
UNSEEN = {
    StartMode.AUTO: _BY_RULES + "a classifier of the client decides the rest",
    StartMode.DEFAULT: "what the client's own settings allow, and no rule names",
    StartMode.ACCEPT_EDITS: "edits in its folder and what its settings allow, where no rule names them",
    StartMode.PLAN: _BY_RULES + "the client, or its classifier, decides the rest",
    StartMode.BYPASS: _BY_RULES + "the client runs the rest unasked",
    StartMode.DONT_ASK: _BY_RULES + "the client refuses what its settings do not allow",
    StartMode.ON_REQUEST: "what runs inside the sandbox, and no rule names",
    StartMode.NEVER: "all that no rule names",
    StartMode.REVIEWED: "what runs inside the sandbox, and no rule names; what no one answers in time, "
    "its reviewer decides",
}
"""Calls that the gate of an interactive client does not see, by mode."""

_SPELT = {"manual": StartMode.DEFAULT.value}
"""Other names of modes."""

_REVIEWERS = (StartMode.REVIEWED, "guardian_subagent")


def start_mode(client: str, version: str, settings: Iterable[Mapping[str, Any]]) -> str:
    """The mode in which an interactive client starts if its command line says nothing; an unknown one as it is spelt.

    Args:
        client: Name of the client.
        version: Its version; empty if it was not found: then that which was tried counts.
        settings: Contents of its settings files, highest precedence first.
    """
    if client == CODEX:
        return _codex_mode(settings)
    known = version_numbers(version or TRIED[CLIENT])
    is_auto_off = False
    for one in settings:
        permissions = one.get("permissions")
        said = permissions if isinstance(permissions, Mapping) else {}
        is_auto_off |= "disable" in (one.get("disableAutoMode"), said.get("disableAutoMode"))
        if isinstance(named := said.get("defaultMode"), str):
            return _SPELT.get(named, named)
    return StartMode.AUTO if known >= AUTO_SINCE and not is_auto_off else StartMode.DEFAULT


def _codex_mode(settings: Iterable[Mapping[str, Any]]) -> str:
    said: dict[str, Any] = {}
    for one in settings:
        said = {**one, **said}
    if said.get("approval_policy") == StartMode.NEVER:
        return StartMode.NEVER
    is_reviewed = said.get("approvals_reviewer") in _REVIEWERS
    return StartMode.REVIEWED if is_reviewed else StartMode.ON_REQUEST


def version_numbers(text: str) -> tuple[int, ...]:
    """A version's numbers, to be compared; those of a text without any are none."""
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def unseen(mode: Mode, starts_in: str) -> str:
    """Describe the calls that hooks of a client in this mode do not see."""
    if mode is Mode.HEADLESS:
        return "nothing: each call is asked about or decided by a rule"
    known = {one.value: text for one, text in UNSEEN.items()}
    return known.get(starts_in, "unknown: Helmr does not know this mode")


def is_out_of_date(client: str, mode: Mode, hooks: Mapping[str, Any]) -> bool:
    """True if the installed hooks lack one that would be installed now.

    Args:
        client: Name of the client.
        mode: Its mode.
        hooks: The hooks by event, as `installed` finds them.
    """
    return bool({HookEvent(one).value for one in hook_times(mode, client)} - hooks.keys())
