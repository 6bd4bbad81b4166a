"""`helmr gate hook CLIENT --mode rules`: the hook that asks the gate's rules before each call, and no person (S-137).

An interactive client decides most calls itself. This hook makes it ask about calls that a rule names, and leaves the
others to it. The hook answers within 2 s. If the runtime can't be asked, a copy of its rules decides, kept beside the
key file and renewed by the runtime's answers: `ask` for a call that it names, and without a copy for every call. The
copy can't deny, because a denial is recorded before it is reported.

Codex takes no `ask`. There the hook holds the call until a person has decided, as a headless one does; if the runtime
can't be asked, it denies.

Source: tried with Claude Code 2.1.332 and Codex 0.171.0.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from helmr.cli import hook

TYPE_CHECKING = False  # `typing` takes long
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType
    from typing import Any, NoReturn

ANSWER_S = 1.8
"""Longest until the answer; what starts the program comes on top."""

RUNTIME_S = 1.0
"""The runtime's share of it."""

BEFORE = "PreToolUse"
COPY = ".rules"
"""Suffix of the key file's name for the copy."""

COPY_BYTES_MAX = 4 * 1024 * 1024
UNKNOWN = "The rules of Helmr could not be asked about this call in time."


def main(client: str, options: Sequence[str]) -> NoReturn:
    """Run the hook of this process for a client with these options, as `hook.main`."""
    try:
        found = hook.read_options(options)
    except hook.Unasked as error:
        hook.end(hook.DENIED, str(error))
    run(found.get("--url"), found.get("--key-file"), float(found["--timeout"]), client)


def run(url: str | None, key_file: str | None, timeout_s: float, client: str) -> NoReturn:
    """Ask the rules about the event on stdin, print their decision, and end the process.

    Args:
        url: The runtime's.
        key_file: Holds the key; beside it is the copy.
        timeout_s: Timeout of the hook, as the client has it.
        client: Whose hook it is.
    """
    signal.signal(signal.SIGALRM, _late_in_codex if client == hook.CODEX else _late)
    signal.setitimer(signal.ITIMER_REAL, ANSWER_S)
    raw = sys.stdin.buffer.read(hook.EVENT_BYTES_MAX)
    event = _event(raw)
    if event.get("hook_event_name", BEFORE) != BEFORE or _is_held_by_another(client):
        hook.end(hook.LEFT)
    copy = _kept(key_file, url)
    known = str(copy.get("hash", ""))
    more = f"&rules={known}" if known.isalnum() else ""
    try:
        key = hook.key_of(key_file)
        said = hook.post(
            url or "", key, raw, RUNTIME_S, client, hook.RULES, more=more, meanwhile=_load_matcher
        )
        is_answered = True
    except hook.Unasked as error:
        said, is_answered = _by_copy(copy, event, client, str(error)), False
    signal.setitimer(signal.ITIMER_REAL, 0)
    if renewed := said.pop("rules", None):
        _keep(key_file, url, renewed)
    found = said.get("hookSpecificOutput", {})
    if client == hook.CODEX and found.get("permissionDecision") == "ask":
        if not is_answered:
            hook.deny(str(found.get("permissionDecisionReason")), BEFORE)
        hook.hold(url, key_file, raw, timeout_s, client)
    hook.say(said)


def renew_copy(url: str, key_file: str, key: str, probe: bytes, timeout_s: float) -> None:
    """Fetch the copy of the rules by an event that is about no call.

    Raises:
        Unasked: The runtime can't be asked.
    """
    said = hook.post(url, key, probe, timeout_s, mode=hook.RULES)
    _keep(key_file, url, said.get("rules"))


def _event(raw: bytes) -> dict[str, Any]:
    """Parse the event; an unreadable one counts as an event before an unknown call."""
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _load_matcher() -> None:
    """Import the rule matcher while waiting for the runtime, in case no answer comes."""
    from helmr.gate import rules_copy  # noqa: F401


def _by_copy(
    copy: Mapping[str, Any], event: Mapping[str, Any], client: str, why: str
) -> dict[str, Any]:
    from helmr.gate import claude_code, rules_copy

    return claude_code.reply(BEFORE, rules_copy.by_copy(copy.get("rules"), event, client, why))


def _kept(key_file: str | None, url: str | None) -> dict[str, Any]:
    """The copy of the rules of that runtime; empty if there is none."""
    try:
        with open(f"{key_file}{COPY}", "rb") as file:
            found = json.loads(file.read(COPY_BYTES_MAX))
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(found, dict) and found.get("url") == url
    rules = found.get("rules") if is_whole else None
    return {"rules": rules, "hash": rules.get("hash")} if isinstance(rules, dict) else {}


def _keep(key_file: str | None, url: str | None, rules: Any) -> None:
    """Replace the copy atomically. Without a writable copy every call is asked about."""
    if not key_file:
        return
    path = f"{key_file}{COPY}"
    try:
        new = os.open(f"{path}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(new, "w", encoding="utf-8") as file:
            json.dump({"url": url, "rules": rules}, file)
        os.replace(f"{path}.{os.getpid()}", path)
    except OSError:
        return


def _is_held_by_another(client: str) -> bool:
    """True if a headless hook of ours decides each call: this one leaves the call to it, so no one is asked twice."""
    if hook.RUN_VARIABLE in os.environ:
        return True
    if client != hook.CLAUDE_CODE:
        return False
    project = os.environ.get("CLAUDE_PROJECT_DIR", ".")
    user = os.environ.get("CLAUDE_CONFIG_DIR") or f"{os.environ.get('HOME', '')}/.claude"
    return any(
        _has_headless(f"{folder}/{name}")
        for folder, name in (
            (user, "settings.json"),
            (f"{project}/.claude", "settings.json"),
            (f"{project}/.claude", "settings.local.json"),
        )
    )


def _has_headless(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            raw = file.read(COPY_BYTES_MAX)
        if b"gate hook" not in raw:
            return False
        groups = json.loads(raw)["hooks"].get(BEFORE, [])
        commands = [str(one.get("command")) for group in groups for one in group["hooks"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
    return any("gate hook" in one and one.endswith("|| exit 2") for one in commands)


def _late(number: int, frame: FrameType | None) -> NoReturn:
    said = {"permissionDecision": "ask", "permissionDecisionReason": UNKNOWN}
    hook.say({"hookSpecificOutput": {"hookEventName": BEFORE, **said}})


def _late_in_codex(number: int, frame: FrameType | None) -> NoReturn:
    hook.deny(UNKNOWN, BEFORE)
