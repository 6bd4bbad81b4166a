"""An agent's call: who asks, how it is headed; to approve it and allow calls like it for a while. Pure.

The answer and the grant are two operations, the answer first (S-107).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from helmr.gate import CALL_TASK, CLIENT_TAG, GatedCall, asked_line
from helmr.gate.claude_code import APPROVE, PLAN
from helmr.gate.grants import exact_matches
from helmr.models import WaitInfo
from helmr.person.forms import form_of, tool_call
from helmr.wire.safe_text import one_line

APPROVED = {"decision": APPROVE}
"""The answer that goes with a grant."""

VALID_FOR = "8h"
"""Default lifetime of a grant."""

ANY = "*"
RUN = "Run "
"""Prefix of a question about a command."""

HINT = "* stands for any text; of a shell's command a single one is allowed"
SHOWN_CHARS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class GrantOffer:
    """First values of a grant made at a call: its tool, and globs for telling arguments that match only this call."""

    tool: str
    globs: Mapping[str, str]

    def shown(self) -> dict[str, str]:
        """The globs, each on a safe line."""
        return {name: one_line(glob, SHOWN_CHARS_MAX) for name, glob in self.globs.items()}

    def matches(self, typed: Mapping[str, str]) -> dict[str, list[str]]:
        """The globs of a grant, as they were typed; a line left as it was shown stands for what it showed."""
        shown = self.shown()
        found = {name: typed.get(name, shown[name]).strip() for name in shown}
        return {
            name: [self.globs[name] if text == shown[name] else text]
            for name, text in found.items()
            if text not in ("", ANY)
        }


def is_call(wait: WaitInfo) -> bool:
    """True if the wait may be about a call that can be granted; `offered` decides by the wait in full."""
    return wait.task == CALL_TASK and not wait.is_restricted


def offered(wait: WaitInfo) -> GrantOffer | None:
    """Return the first values of a grant; None if the wait, which is in full, is no call that can be allowed."""
    if not is_call(wait) or wait.json_schema is None:
        return None
    call = tool_call(form_of(wait.json_schema, initial=wait.initial))
    if call is None or call.tool == PLAN:
        return None
    return GrantOffer(
        call.tool, {name: globs[0] for name, globs in exact_matches(call.asked).items()}
    )


def asker(wait: WaitInfo) -> str:
    """Name the one that asks: for an agent's call the agent, else the task."""
    named = (tag.removeprefix(CLIENT_TAG) for tag in wait.tags if tag.startswith(CLIENT_TAG))
    return next(named, "the gate") if wait.task == CALL_TASK else wait.task


def heading(wait: WaitInfo, call: GatedCall) -> str:
    """The question where the call stands below it: without its command, if it says no more than that."""
    command, subject = call.input.get("command"), wait.subject or ""
    if not isinstance(command, str) or not subject.startswith(RUN):
        return subject
    said = subject.removeprefix(RUN).removesuffix("…")
    return "Run this command?" if " ".join(command.split()).startswith(said) else subject


def body_below(wait: WaitInfo, call: GatedCall) -> str | None:
    """The wait's body where client and home stand above it, which it then does not say again."""
    before, line, after = (wait.body or "").rpartition(asked_line(call))
    if not line:
        return wait.body
    return f"{before}{asked_line(call, is_headed=True)}{after}".strip("\n")
