"""Grants, and calls of unknown outcome, as rows and words. Pure.

Text written by agents leaves here safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from helmr.gate.grants import TELLING, matches_text
from helmr.models import GatedCallInfo, GrantInfo
from helmr.person.forms import pretty
from helmr.person.review import words
from helmr.wire.safe_text import one_line
from helmr_console.views import Cell, Row

BECAME = {
    "succeeded": "it was made, and did what it was to do",
    "failed": "it was made, and failed",
    "not_made": "its effect is nowhere to be seen: it was not made",
}
"""Outcomes that a person may report for a call, with their meaning."""


@dataclass(frozen=True, slots=True)
class GrantNow:
    """The grant under the cursor. `counts`: it is in force."""

    grant: GrantInfo
    counts: bool


def in_order(grants: Iterable[GrantInfo], now: datetime) -> list[GrantInfo]:
    """Sort grants: those in force by soonest end, then those that are over, newest first."""
    found = sorted(grants, key=lambda one: one.created_at, reverse=True)
    counting = [one for one in found if one.counts(now)]
    counting.sort(key=lambda one: one.expires_at)
    return counting + [one for one in found if not one.counts(now)]


def grant_state(one: GrantInfo, now: datetime) -> tuple[str, str]:
    """A grant's state in a few words, and its role."""
    if one.revoked_at is not None:
        return "revoked", "muted"
    if not one.counts(now):
        return "over", "muted"
    return words.due(one.expires_at, now).text, "success"


def grant_row(one: GrantInfo, now: datetime) -> Row:
    """time left, tool, allowed arguments, agent, creator."""
    text, role = grant_state(one, now)
    return (
        Cell(text, role),
        Cell(one_line(one.tool, 100)),
        Cell(one_line(matches_text(one.matches), 300), "" if one.counts(now) else "muted"),
        Cell(agent_of(one), "muted"),
        Cell(one_line(one.created_by.label, 100)),
    )


def agent_of(one: GrantInfo | GatedCallInfo) -> str:
    """The agent's session, as its tag names it."""
    return one_line(f"{one.client}:{one.agent}", 200)


def revoking(one: GrantInfo) -> tuple[str, ...]:
    """Effects of revoking a grant."""
    return (
        f"let {agent_of(one)} ask again before it calls {one_line(one.tool, 100)}",
        "calls that it has allowed stay allowed; those that wait already wait on",
    )


def call_words(one: GatedCallInfo) -> str:
    """The call on one line: its telling argument, else all of them."""
    asked = one.input or one.asked or {}
    telling = next((asked[name] for name in TELLING if isinstance(asked.get(name), str)), None)
    return one_line(telling if telling is not None else pretty(asked), 300)


def outcome_row(one: GatedCallInfo, now: datetime) -> Row:
    """time since approval, tool, call, agent."""
    ago = words.span((now - one.decided_at).total_seconds()) if one.decided_at else ""
    return (
        Cell(ago, "warning"),
        Cell(one_line(one.tool, 100)),
        Cell(call_words(one)),
        Cell(agent_of(one), "muted"),
    )


def saying(one: GatedCallInfo, outcome: str) -> tuple[str, ...]:
    """Effects of reporting this outcome."""
    return (
        f"record what became of this call of {one_line(one.tool, 100)}: {BECAME[outcome]}",
        "it is listed no more; the first word counts",
    )


def grants_line(found: Mapping[str, GrantInfo], now: datetime) -> tuple[str, str]:
    """All grants in a few words, and the role."""
    counting = [one for one in found.values() if one.counts(now)]
    if not counting:
        return "none", ""
    first = min(one.expires_at for one in counting)
    return f"{len(counting)}, the first ends in {words.due(first, now).text}", ""


def unknown_line(found: Mapping[str, GatedCallInfo], now: datetime) -> tuple[str, str]:
    """All calls of unknown outcome in a few words, and the role."""
    if not found:
        return "all known", ""
    calls = "1 call" if len(found) == 1 else f"{len(found)} calls"
    approved = [one.decided_at for one in found.values() if one.decided_at]
    since = f", the oldest approved {words.ago(min(approved), now)}" if approved else ""
    return f"of {calls} no one knows what became{since}", "warning"
