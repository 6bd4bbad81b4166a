"""The lists of grants, and of calls with unknown outcome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Literal

from textual.content import Content

from helmr.gate.grants import matches_text
from helmr.models import GatedCallInfo, GrantInfo
from helmr.person.filters import Facts, Fields
from helmr.person.forms import pretty
from helmr.person.review import words
from helmr_console import safe
from helmr_console.actions import ActionContext, ActionScope, Permit
from helmr_console.features import gate
from helmr_console.features.gate import views
from helmr_console.features.gate.actions import GRANTS, OUTCOMES
from helmr_console.features.gate.views import GrantNow
from helmr_console.screens.base import bindings
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import MenuItem, PickScreen, copy_menu
from helmr_console.screens.session import SessionScreen
from helmr_console.screens.system import SystemReads
from helmr_console.views import Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import fact, head, lines

Outcome = Literal["succeeded", "failed", "not_made"]
SAID: Mapping[Outcome, str] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "not_made": "was not made",
}
"""Outcomes that a person may report for a call, with their words."""

GRANT_FIELDS = Fields(
    noun="grant",
    texts=("tool", "allows", "agent", "by", "state"),
    times={"ends": ("ends", True)},
    pushed={},
)
OUTCOME_FIELDS = Fields(
    noun="call",
    texts=("tool", "agent", "call"),
    times={"approved": ("approved", False)},
    pushed={},
)


class GrantsScreen(ListScreen[GrantInfo]):
    """Grants: calls that people allowed agents for a while."""

    AREA = "system"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.AREA, GRANTS)
    BINDINGS = bindings(*SCOPES)
    FIELDS = GRANT_FIELDS
    TITLE_TEXT = "Grants, those that count first"
    NOUN = "grants"
    PANE = "Grant"
    HINT = "What a grant allows is shown here."
    NONE = "Nothing is granted. A on a call in the inbox approves it and grants calls like it."
    COLUMNS = (
        Column("left", 8),
        Column("tool", 14),
        Column("allows", 0),
        Column("agent", 20, from_width=90),
        Column("by", 14, from_width=90),
    )
    HELP_TEXT = (
        "Calls of agents that need no answer: each grant is for one tool in one session of an agent, until its time is "
        "over. Enter opens the call at which it was given. X revokes it: the agent's next call is asked about."
    )

    def __init__(self) -> None:
        super().__init__()
        self.reads = SystemReads(self)
        self.parts = (self.reads,)

    def all_keys(self) -> Iterable[str]:
        """Ids, grants in force first."""
        found = (self.things() or {}).values()
        return [one.id for one in views.in_order(found, self.console.store.now())]

    def things(self) -> Mapping[str, GrantInfo] | None:
        """The newest grants."""
        return self.console.store.of_features.get(gate.GRANTS)

    def row_of(self, one: GrantInfo, now: datetime) -> Row:
        """The row of a grant."""
        return views.grant_row(one, now)

    def facts_of(self, one: GrantInfo) -> Facts:
        """Facts for the filter."""
        return {
            "tool": one.tool,
            "allows": matches_text(one.matches),
            "agent": views.agent_of(one),
            "by": one.created_by.label,
            "state": "counts" if one.counts(self.console.store.now()) else "over",
            "ends": one.expires_at,
        }

    def content_of(self, one: GrantInfo, now: datetime) -> Content:
        """A grant in full."""
        return grant_content(one, now)

    def context(self) -> ActionContext:
        """The context, with the selected grant."""
        one, now = self.selected(), self.console.store.now()
        thing = GrantNow(one, one.counts(now)) if one is not None else None
        return replace(super().context(), thing=thing)

    def do_open(self) -> None:
        """Open the call at which the grant was given."""
        one = self.selected()
        if one is not None:
            self.app.push_screen(SessionScreen(one.session_id))

    def do_copy(self) -> None:
        """Copy a grant's id, JSON or CLI command."""
        one = self.selected()
        if one is not None:
            items = [("id", one.id), ("JSON", one.model_dump_json(indent=2))]
            items.append(("CLI command", f"helmr gate grant revoke {one.id}"))
            self.app.push_screen(copy_menu(self, items))

    def do_grant_revoke(self) -> None:
        """Confirm, then revoke the grant."""
        one = self.selected()
        if one is not None:

            async def act(permit: Permit, operation_id: str) -> None:
                await permit.client.grants.revoke(one.id, operation_id=operation_id)

            self.reads.confirm("grant.revoke", "Revoke the grant", act, views.revoking(one))


def grant_content(one: GrantInfo, now: datetime) -> Content:
    """A grant in full."""
    state, role = views.grant_state(one, now)
    is_live = one.counts(now)
    ends = f"{words.stamp(one.expires_at)}" + (f" (in {state})" if is_live else "")
    parts = [
        Content.assemble(
            safe.line(one.tool, "bold", limit=100),
            ("  ", ""),
            ("counts" if is_live else state, f"bold $c-{role}"),
        ),
        *(
            fact(name, safe.text(" or ".join(globs), limit=1_000))
            for name, globs in one.matches.items()
        ),
    ]
    if not one.matches:
        parts.append(fact("allows", "whatever it is called with"))
    parts += [
        fact("agent", safe.line(views.agent_of(one), limit=200)),
        fact("asked by", safe.line(one.asker, limit=100)),
        fact("given by", safe.line(one.created_by.label, limit=100)),
        fact("given at", words.stamp(one.created_at)),
        fact("ends", ends),
    ]
    if one.revoked_at is not None:
        parts.append(fact("revoked", words.stamp(one.revoked_at)))
    return lines([*parts, fact("call", safe.line(one.session_id, limit=80))])


class UnknownOutcomesScreen(ListScreen[GatedCallInfo]):
    """Approved calls whose outcome is unknown."""

    AREA = "system"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.AREA, OUTCOMES)
    BINDINGS = bindings(*SCOPES)
    FIELDS = OUTCOME_FIELDS
    TITLE_TEXT = "Unknown outcomes, newest first"
    NOUN = "calls"
    PANE = "Call"
    HINT = "What a call was to do is shown here."
    NONE = "The outcome of every approved call is known."
    COLUMNS = (
        Column("approved", 9),
        Column("tool", 14),
        Column("call", 0),
        Column("agent", 20, from_width=90),
    )
    HELP_TEXT = (
        "Calls of agents that people approved, and that may have been made: the agent ended before it said so, or has "
        "not spoken of them for a day. Enter opens the call. a says what you have found out; then it is listed no more."
    )

    def __init__(self) -> None:
        super().__init__()
        self.reads = SystemReads(self)
        self.parts = (self.reads,)

    def all_keys(self) -> Iterable[str]:
        """Sessions of the calls, newest first."""
        return list(self.things() or ())

    def things(self) -> Mapping[str, GatedCallInfo] | None:
        """The newest such calls."""
        return self.console.store.of_features.get(gate.OUTCOMES)

    def row_of(self, one: GatedCallInfo, now: datetime) -> Row:
        """The row of a call."""
        return views.outcome_row(one, now)

    def facts_of(self, one: GatedCallInfo) -> Facts:
        """Facts for the filter."""
        return {
            "tool": one.tool,
            "agent": views.agent_of(one),
            "call": views.call_words(one),
            "approved": one.decided_at,
        }

    def content_of(self, one: GatedCallInfo, now: datetime) -> Content:
        """A call in full."""
        return call_content(one, now)

    def context(self) -> ActionContext:
        """The context, with the selected call."""
        return replace(super().context(), thing=self.selected())

    def do_open(self) -> None:
        """Open the call's session."""
        one = self.selected()
        if one is not None:
            self.app.push_screen(SessionScreen(one.session_id))

    def do_copy(self) -> None:
        """Copy a call's session id, JSON or CLI command."""
        one = self.selected()
        if one is not None:
            items = [("session id", one.session_id), ("JSON", one.model_dump_json(indent=2))]
            items.append(("CLI command", f"helmr gate outcome say {one.session_id} not-made"))
            self.app.push_screen(copy_menu(self, items))

    def do_outcome_say(self) -> None:
        """Pick the call's outcome, then confirm it."""
        one = self.selected()
        if one is not None:
            choices = [
                MenuItem(said, views.BECAME[outcome], partial(self._say, one, outcome))
                for outcome, said in SAID.items()
            ]
            self.app.push_screen(PickScreen("What became of the call?", choices, typed=False))

    def _say(self, one: GatedCallInfo, outcome: Outcome) -> None:
        async def act(permit: Permit, operation_id: str) -> None:
            await permit.client.outcomes.say(
                one.session_id, outcome=outcome
            )  # repeats are harmless

        texts = views.saying(one, outcome)
        self.reads.confirm("outcome.say", f"Say that it {SAID[outcome]}", act, texts)


def call_content(one: GatedCallInfo, now: datetime) -> Content:
    """A call in full."""
    parts = [
        safe.line(one.tool, "bold", limit=100),
        fact("agent", safe.line(views.agent_of(one), limit=200)),
    ]
    if one.decided_at is not None:
        ago = words.ago(one.decided_at, now)
        parts.append(fact("approved", f"{words.stamp(one.decided_at)} ({ago})"))
    parts += [
        fact("call", safe.line(one.session_id, limit=80)),
        Content(""),
        head("Called with"),
        safe.text(pretty(one.input or one.asked or {}), limit=4_000),
    ]
    return lines(parts)
