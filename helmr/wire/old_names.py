"""Names that changed: old ones are read for ever, and only today's are written.

This is their only table. A stored entry keeps its bytes, which its hash covers; readers of its body translate the old
names. Requests, query strings, paths and command lines get today's names before other code sees them.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

_ESCALATES = {"next_rung": "next_escalation", "next_rung_at": "next_escalation_at"}
_STEP = {"rung": "escalation_step", **_ESCALATES}

ENTRY_FIELDS: Mapping[str, Mapping[str, str]] = {
    "wait.opened": {"ladder": "escalation", **_ESCALATES},
    "wait.assigned": _STEP,
    "wait.reminded": _STEP,
    "token.created": {"ladder": "escalation"},
    "run.actor_died": {"counted": "attributed"},
}
"""Renamed fields of an entry's body, by the entry's kind."""

STATE_FIELDS: Mapping[str, str] = {"deaths": "crashes", "ladder": "escalation"}
"""Fields of a run and of its wait in a checkpoint."""

REQUEST_FIELDS: Mapping[str, str] = {"ladder": "escalation"}
"""Fields of HTTP bodies and parameters of query strings."""

PATH_ENDS: Mapping[str, str] = {"/rehearse": "/dry-run"}
"""Last parts of HTTP paths."""

ERROR_CODES: Mapping[str, str] = {"bad_ladder": "bad_escalation"}
"""Codes of problems, as an older gateway answers them."""

KEPT_ERROR_CODES: Mapping[str, str] = {"NotAmendable": "ask_anew"}
"""Codes of problems that stay what they were, by today's name of their class."""

OPTIONS: Mapping[str, str] = {"--hold": "--undo-for"}
"""Options of the command line."""

GONE_OPTIONS: Mapping[str, str] = dict.fromkeys(
    ("--slots", "--desks"),
    "A host holds many sessions: `--hosts N` processes with `--sessions-per-host N` each; without both, what fits the "
    "machine.",
)
"""Removed options of the command line, and the advice to print."""

COMMANDS: Mapping[tuple[str, str], str] = {("wait", "rehearse"): "dry-run"}
"""Commands, each after its group."""

DEPRECATED_AT_S = 1_795_910_400
"""Unix time at which names of requests, paths and command lines changed, with 0.3.0."""

GONE_COMMANDS: Mapping[str, str] = {
    "follow": "Run a second runtime with the same `helmr up --log URL`: it stands by and takes over. For a copy "
    "elsewhere use `helmr backup`, or the replication of your bucket.",
    "promote": "A pair needs no promotion: the standby takes over, or `helmr takeover` has it do so now. `helmr repair "
    "--data-dir COPY` makes a ledger of a follower's copy, once its primary is stopped for good.",
}
"""Removed commands, and the advice to print."""


def body_of_today(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body of an entry of that kind, in today's names; itself if it has no others."""
    names = ENTRY_FIELDS.get(kind)
    return body if names is None else _renamed(body, names)


def state_of_today(saved: dict[str, Any]) -> dict[str, Any]:
    """A run or a wait out of a checkpoint, in today's names."""
    return _renamed(saved, STATE_FIELDS)


def request_of_today(given: Any, known: Container[str]) -> Any:
    """A request's body or query in today's names; `known` are its model's fields, which are never translated."""
    if not isinstance(given, dict) or given.keys().isdisjoint(REQUEST_FIELDS):
        return given
    names = {old: new for old, new in REQUEST_FIELDS.items() if new in known and old not in known}
    return _renamed(given, names)


def path_of_today(path: str) -> str:
    """An HTTP path in today's names."""
    for old, new in PATH_ENDS.items():
        if path.endswith(old):
            return path.removesuffix(old) + new
    return path


def arguments_of_today(arguments: Sequence[str]) -> list[str]:
    """A command line in today's names. Words after `--` stay as they are."""
    found = list(arguments)
    end = found.index("--") if "--" in found else len(found)
    for at in range(end):
        option, equals, value = found[at].partition("=")
        if option in OPTIONS:
            found[at] = OPTIONS[option] + equals + value
        elif at and (found[at - 1], found[at]) in COMMANDS:
            found[at] = COMMANDS[found[at - 1], found[at]]
    return found


def renamed(given: Sequence[str], today: Sequence[str]) -> list[tuple[str, str]]:
    """The words of a command line that `arguments_of_today` replaced, and today's; without values."""
    return [
        (old.partition("=")[0], new.partition("=")[0])
        for old, new in zip(given, today, strict=True)
        if old != new
    ]


def _renamed(body: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The same object unless it has an old name; where it has both, today's stands."""
    if body.keys().isdisjoint(names):
        return body
    return {names.get(key, key): value for key, value in body.items() if names.get(key) not in body}
